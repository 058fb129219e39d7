"""Kernels of batch norm forward in Triton: sums of runs, their merger in a fixed order, then one pass over all."""

from __future__ import annotations

import triton
import triton.language as tl

from visionops._triton_activation import activated, is_steep
from visionops.norm.triton_tiles import across, before_activation, places, rounded


@triton.jit
def moments_kernel(
    input, means, squares,
    lanes, alongs, columns, total,
    RUN: tl.constexpr, LAST: tl.constexpr, COMPUTE: tl.constexpr, LANES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of each lane in a run, (runs, lanes) float64. Programs: runs, lanes."""
    blocks = tl.cdiv(lanes, LANES)
    run = tl.program_id(0) // blocks
    lane = tl.program_id(0) % blocks * LANES + tl.arange(0, LANES)
    axis: tl.constexpr = 0 if LAST else 1
    count = tl.zeros([LANES], tl.float64)
    mean, square = count, count
    first, end = run * RUN, tl.minimum(run * RUN + RUN, alongs)
    while first < end:
        along = first + tl.arange(0, STEPS)
        place = places(lane, along, columns, LAST)
        mask = (across(lane, LAST) < lanes) & (across(along, not LAST) < end) & (place < total)
        x = tl.load(input + place, mask, 0).to(COMPUTE)
        part = tl.sum(mask.to(COMPUTE), axis)
        share = 1 / tl.where(part > 0, part, 1.0)
        origin = tl.sum(x, axis) * share
        distance = tl.where(mask, x - across(origin, LAST), 0.0)
        part_mean = origin.to(tl.float64) + (tl.sum(distance, axis) * share).to(tl.float64)
        part_square = tl.sum(distance * distance, axis).to(tl.float64)
        # The two merge as their counts: Chan's update.
        both = count + part.to(tl.float64)
        fraction = part.to(tl.float64) / tl.where(both > 0, both, 1.0)
        apart = part_mean - mean
        square += part_square + apart * apart * count * fraction
        mean += apart * fraction
        count = both
        first += STEPS
    place = run.to(tl.int64) * lanes + lane
    tl.store(means + place, mean, lane < lanes)
    tl.store(squares + place, square, lane < lanes)


@triton.jit
def _piece_count(run, repeat, repeats, alongs, pixels, RUN: tl.constexpr, LAST: tl.constexpr):
    """Elements of a lane in a run; the last row of columns may be short."""
    length = alongs
    if LAST:
        length = (pixels - repeat + repeats - 1) // repeats
    rest = length - run * RUN
    return tl.minimum(tl.where(rest < 0, 0, rest), RUN)


@triton.jit
def _pieces(
    first, channel, channels, repeats, runs, alongs, pixels,
    RUN: tl.constexpr, LAST: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Of the moments from `first` on: which there are, of how many elements each is, and where they lie."""
    piece = first + tl.arange(0, PIECES)
    mask = (piece < runs * repeats)[:, None] & (channel < channels)[None, :]
    weight = _piece_count(piece // repeats, piece % repeats, repeats, alongs, pixels, RUN, LAST).to(tl.float64)
    return mask, weight, piece.to(tl.int64)[:, None] * channels + channel[None, :]


@triton.jit
def statistics_kernel(
    means, squares, mean, var, kept_mean, kept_var, running_mean, running_var, moved_mean, moved_var,
    channels, repeats, runs, alongs, pixels, count,
    momentum, unbiased,
    MOVED: tl.constexpr, RUN: tl.constexpr, LAST: tl.constexpr, PIECES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Merges the moments of all runs of a channel; keeps them for backward, moves the running estimates.

    Programs: channels.
    """
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros([CHANNELS], tl.float64)
    first = 0
    while first < runs * repeats:
        mask, weight, place = _pieces(first, channel, channels, repeats, runs, alongs, pixels, RUN, LAST, PIECES)
        total += tl.sum(tl.load(means + place, mask, 0) * weight[:, None], 0)
        first += PIECES
    centre = total / count
    total = tl.zeros([CHANNELS], tl.float64)
    first = 0
    while first < runs * repeats:
        mask, weight, place = _pieces(first, channel, channels, repeats, runs, alongs, pixels, RUN, LAST, PIECES)
        apart = tl.where(mask, tl.load(means + place, mask, 0) - centre[None, :], 0.0)
        total += tl.sum(tl.load(squares + place, mask, 0) + apart * apart * weight[:, None], 0)
        first += PIECES
    spread = total / count
    inside = channel < channels
    tl.store(mean + channel, centre, inside)
    tl.store(var + channel, spread, inside)
    tl.store(kept_mean + channel, centre.to(kept_mean.dtype.element_ty), inside)
    tl.store(kept_var + channel, spread.to(kept_var.dtype.element_ty), inside)
    if MOVED:
        old_mean = tl.load(running_mean + channel, inside, 0).to(tl.float64)
        old_var = tl.load(running_var + channel, inside, 0).to(tl.float64)
        new_mean = old_mean + momentum * (centre - old_mean)
        new_var = old_var + momentum * (spread * unbiased - old_var)
        tl.store(moved_mean + channel, rounded(new_mean, moved_mean.dtype.element_ty), inside)
        tl.store(moved_var + channel, rounded(new_var, moved_var.dtype.element_ty), inside)


@triton.jit
def coefficients_kernel(
    mean, var, weight, bias, coefficients,
    channels,
    eps,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, COMPUTE: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Writes centre, scale and shift, (3, C). Programs: channels."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    mask = channel < channels
    exact = tl.load(mean + channel, mask, 0).to(tl.float64)
    scale = 1 / tl.sqrt(tl.load(var + channel, mask, 1).to(tl.float64) + eps)
    if WEIGHT:
        scale *= tl.load(weight + channel, mask, 0).to(tl.float64)
    centre = exact.to(COMPUTE)
    # Far from 0 a rounded mean is off by more than the output's own rounding: the shift takes the rest.
    shift = (centre.to(tl.float64) - exact) * scale
    if BIAS:
        shift += tl.load(bias + channel, mask, 0).to(tl.float64)
    tl.store(coefficients + channel, centre, mask)
    tl.store(coefficients + channels + channel, scale.to(COMPUTE), mask)
    tl.store(coefficients + 2 * channels + channel, shift.to(COMPUTE), mask)


@triton.jit
def output_kernel(
    input, residual, coefficients, out, bits,
    rows, columns, total, channels, row_bytes,
    ACTIVATION: tl.constexpr, BITS: tl.constexpr, RESIDUAL: tl.constexpr, LAST: tl.constexpr, COMPUTE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of the output and of the bits of its slope. Programs: rows, columns."""
    blocks = tl.cdiv(columns, COLUMNS)
    block = tl.program_id(0) % blocks
    row = (tl.program_id(0) // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    place = row[:, None] * columns + column[None, :]
    mask = (row < rows)[:, None] & (column < columns)[None, :] & (place < total)
    channel = across((column if LAST else row) % channels, LAST)
    z = before_activation(input, residual, coefficients, place, channel, mask, channels, RESIDUAL, COMPUTE)
    if BITS:
        steep = (is_steep(z, ACTIVATION) & mask).to(tl.int32)
        eights = tl.reshape(steep, [ROWS, COLUMNS // 8, 8]) << tl.arange(0, 8)[None, None, :]
        byte = block * (COLUMNS // 8) + tl.arange(0, COLUMNS // 8)
        inside = (row < rows)[:, None] & (byte < row_bytes)[None, :]
        tl.store(bits + row[:, None] * row_bytes + byte[None, :], tl.sum(eights, 2).to(tl.uint8), inside)
    tl.store(out + place, activated(z, ACTIVATION).to(out.dtype.element_ty), mask)
