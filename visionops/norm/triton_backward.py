"""Kernels of batch norm backward in Triton: two sums of each channel, then one pass for the gradients."""

from __future__ import annotations

import triton
import triton.language as tl

from visionops._triton_activation import NONE, passed, slope
from visionops.norm.triton_tiles import across, before_activation, bit_places, places


@triton.jit
def _inner_gradient(
    grad, input, residual, bits, coefficients, place, bit_place, bit, channel, mask,
    channels,
    ACTIVATION: tl.constexpr, KINK: tl.constexpr, RESIDUAL: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """The gradient before the activation."""
    inner = tl.load(grad + place, mask, 0).to(COMPUTE)
    if KINK:
        steep = (tl.load(bits + bit_place, mask, 0).to(tl.int32) >> bit) & 1
        inner = passed(inner, steep != 0, ACTIVATION)
    elif ACTIVATION != NONE:
        z = before_activation(input, residual, coefficients, place, channel, mask, channels, RESIDUAL, COMPUTE)
        inner *= slope(z, ACTIVATION)
    return inner


@triton.jit
def backward_sums_kernel(
    grad, input, residual, bits, coefficients, sums, products,
    lanes, alongs, columns, total, channels, row_bytes,
    ACTIVATION: tl.constexpr, KINK: tl.constexpr, RESIDUAL: tl.constexpr,
    RUN: tl.constexpr, LAST: tl.constexpr, COMPUTE: tl.constexpr, LANES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Sums of the gradient before the activation, and of its products with the centred input, as moments_kernel."""
    blocks = tl.cdiv(lanes, LANES)
    run = tl.program_id(0) // blocks
    lane = tl.program_id(0) % blocks * LANES + tl.arange(0, LANES)
    axis: tl.constexpr = 0 if LAST else 1
    channel = across(lane % channels, LAST)
    centre = tl.load(coefficients + channel)
    sum_inner = tl.zeros([LANES], tl.float64)
    sum_product = sum_inner
    first, end = run * RUN, tl.minimum(run * RUN + RUN, alongs)
    while first < end:
        along = first + tl.arange(0, STEPS)
        place = places(lane, along, columns, LAST)
        mask = (across(lane, LAST) < lanes) & (across(along, not LAST) < end) & (place < total)
        byte, bit = bit_places(lane, along, row_bytes, LAST)
        inner = _inner_gradient(
            grad, input, residual, bits, coefficients, place, byte, bit, channel, mask,
            channels, ACTIVATION, KINK, RESIDUAL, COMPUTE,
        )  # fmt: skip
        x = tl.load(input + place, mask, 0).to(COMPUTE)
        inner = tl.where(mask, inner, 0.0)
        product = tl.where(mask, inner * (x - centre), 0.0)
        sum_inner += tl.sum(inner, axis).to(tl.float64)
        sum_product += tl.sum(product, axis).to(tl.float64)
        first += STEPS
    place = run.to(tl.int64) * lanes + lane
    tl.store(sums + place, sum_inner, lane < lanes)
    tl.store(products + place, sum_product, lane < lanes)


@triton.jit
def backward_merge_kernel(
    sums, products, mean, var, weight, coefficients, grad_weight, grad_bias,
    channels, pieces, count,
    eps,
    AFFINE: tl.constexpr, WEIGHT: tl.constexpr, COMPUTE: tl.constexpr,
    PIECES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Merges the sums of a channel into grad_weight, grad_bias, and the last two of coefficients (5, C)."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros([CHANNELS], tl.float64)
    total_product = total
    first = 0
    while first < pieces:
        piece = first + tl.arange(0, PIECES)
        mask = (piece < pieces)[:, None] & (channel < channels)[None, :]
        place = piece.to(tl.int64)[:, None] * channels + channel[None, :]
        total += tl.sum(tl.load(sums + place, mask, 0), 0)
        total_product += tl.sum(tl.load(products + place, mask, 0), 0)
        first += PIECES
    inside = channel < channels
    # The products are with x - centre; the mean differs from the centre by its rounding.
    rest = tl.load(mean + channel, inside, 0).to(tl.float64) - tl.load(coefficients + channel, inside, 0).to(tl.float64)
    inverse = 1 / tl.sqrt(tl.load(var + channel, inside, 1).to(tl.float64) + eps)
    by_weight = (total_product - rest * total) * inverse
    if AFFINE:
        tl.store(grad_weight + channel, by_weight.to(grad_weight.dtype.element_ty), inside)
        tl.store(grad_bias + channel, total.to(grad_bias.dtype.element_ty), inside)
    scale = inverse
    if WEIGHT:
        scale *= tl.load(weight + channel, inside, 0).to(tl.float64)
    response = -scale * inverse * by_weight / count
    constant = -scale * total / count - response * rest
    tl.store(coefficients + 3 * channels + channel, response.to(COMPUTE), inside)
    tl.store(coefficients + 4 * channels + channel, constant.to(COMPUTE), inside)


@triton.jit
def backward_kernel(
    grad, input, residual, bits, coefficients, grad_input, grad_residual,
    rows, columns, total, channels, row_bytes,
    ACTIVATION: tl.constexpr, KINK: tl.constexpr, RESIDUAL: tl.constexpr, TRAINING: tl.constexpr, BOTH: tl.constexpr,
    LAST: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of the gradients of input and, if BOTH, of residual. Programs: rows, columns."""
    blocks = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    place = row[:, None] * columns + column[None, :]
    mask = (row < rows)[:, None] & (column < columns)[None, :] & (place < total)
    channel = across((column if LAST else row) % channels, LAST)
    bit_place = row[:, None] * row_bytes + (column // 8)[None, :]
    inner = _inner_gradient(
        grad, input, residual, bits, coefficients, place, bit_place, (column % 8)[None, :], channel, mask,
        channels, ACTIVATION, KINK, RESIDUAL, COMPUTE,
    )  # fmt: skip
    if BOTH:
        tl.store(grad_residual + place, inner.to(grad_residual.dtype.element_ty), mask)
    value = inner * tl.load(coefficients + channels + channel)
    if TRAINING:
        x = tl.load(input + place, mask, 0).to(COMPUTE)
        response = tl.load(coefficients + 3 * channels + channel)
        constant = tl.load(coefficients + 4 * channels + channel)
        value += (x - tl.load(coefficients + channel)) * response + constant
    tl.store(grad_input + place, value.to(grad_input.dtype.element_ty), mask)
