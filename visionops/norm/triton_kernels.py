"""Batch norm in Triton, forward and backward: sums of runs, their merger in a fixed order, then one pass over all.

An image lies in memory as rows: with channels last some pixels' channels, otherwise one channel of one image. A lane is
what is summed by itself: a column of rows with channels last, otherwise a row. In both, lane r C + c is of channel c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionops._layout import is_channels_last
from visionops._op import INTERPRETED
from visionops._triton_launch import launch
from visionops.norm.fused_batch_norm import COLUMNS, KINKED, bits_shape
from visionops.norm.triton_math import (
    NONE,
    activated,
    is_steep,
    passed,
    slope,
)

# Elements of a tile. The interpreter takes as long for a small one as for a large one.
_TILE = 16384 if INTERPRETED else 2048
_LANES = 256 if INTERPRETED else 64  # of a tile, channels last
_RUN = 16 if INTERPRETED else 64  # rows that one program sums over, channels last
_LONG_RUN = 4096 if INTERPRETED else 16384  # columns that one program sums over otherwise
_PIECES, _CHANNELS = 64, 16  # of a tile of the merger


@triton.jit
def _places(lane, along, columns, LAST: tl.constexpr):
    """Offsets of a tile: lanes across with channels last, else down."""
    if LAST:
        places = along[:, None].to(tl.int64) * columns + lane[None, :]
    else:
        places = lane[:, None].to(tl.int64) * columns + along[None, :]
    return places


@triton.jit
def _bits(lane, along, row_bytes, LAST: tl.constexpr):
    """Bytes of a tile's bits, and the bits in them."""
    if LAST:
        byte = along[:, None].to(tl.int64) * row_bytes + (lane // 8)[None, :]
        bit = (lane % 8)[None, :]
    else:
        byte = lane[:, None].to(tl.int64) * row_bytes + (along // 8)[None, :]
        bit = (along % 8)[None, :]
    return byte, bit


@triton.jit
def _rounded(value, DTYPE: tl.constexpr):
    """A float64 in a dtype; 16-bit ones are not reached in one step."""
    if DTYPE != tl.float64:
        value = value.to(tl.float32)
    return value.to(DTYPE)


@triton.jit
def _across(values, LAST: tl.constexpr):
    """Values of lanes, to meet a tile."""
    if LAST:
        values = values[None, :]
    else:
        values = values[:, None]
    return values


@triton.jit
def _before_activation(
    input, residual, coefficients, place, channel, mask,
    channels,
    RESIDUAL: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """(x - centre) * scale + shift + residual; coefficients (3 or 5, C)."""
    x = tl.load(input + place, mask, 0).to(COMPUTE)
    centre = tl.load(coefficients + channel)
    scale = tl.load(coefficients + channels + channel)
    shift = tl.load(coefficients + 2 * channels + channel)
    z = (x - centre) * scale + shift
    if RESIDUAL:
        z += tl.load(residual + place, mask, 0).to(COMPUTE)
    return z


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
        z = _before_activation(input, residual, coefficients, place, channel, mask, channels, RESIDUAL, COMPUTE)
        inner *= slope(z, ACTIVATION)
    return inner


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
        place = _places(lane, along, columns, LAST)
        mask = (_across(lane, LAST) < lanes) & (_across(along, not LAST) < end) & (place < total)
        x = tl.load(input + place, mask, 0).to(COMPUTE)
        part = tl.sum(mask.to(COMPUTE), axis)
        share = 1 / tl.where(part > 0, part, 1.0)
        origin = tl.sum(x, axis) * share
        distance = tl.where(mask, x - _across(origin, LAST), 0.0)
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
def statistics_kernel(
    means, squares, mean, var, running_mean, running_var, moved_mean, moved_var,
    channels, repeats, runs, alongs, pixels, count,
    momentum, unbiased,
    MOVED: tl.constexpr, RUN: tl.constexpr, LAST: tl.constexpr, PIECES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Merges the moments of all runs of a channel; moves the running estimates. Programs: channels."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros([CHANNELS], tl.float64)
    first = 0
    while first < runs * repeats:
        piece = first + tl.arange(0, PIECES)
        run, repeat = piece // repeats, piece % repeats
        mask = (piece < runs * repeats)[:, None] & (channel < channels)[None, :]
        weight = _piece_count(run, repeat, repeats, alongs, pixels, RUN, LAST).to(tl.float64)
        place = piece.to(tl.int64)[:, None] * channels + channel[None, :]
        total += tl.sum(tl.load(means + place, mask, 0) * weight[:, None], 0)
        first += PIECES
    centre = total / count
    total = tl.zeros([CHANNELS], tl.float64)
    first = 0
    while first < runs * repeats:
        piece = first + tl.arange(0, PIECES)
        run, repeat = piece // repeats, piece % repeats
        mask = (piece < runs * repeats)[:, None] & (channel < channels)[None, :]
        weight = _piece_count(run, repeat, repeats, alongs, pixels, RUN, LAST).to(tl.float64)
        place = piece.to(tl.int64)[:, None] * channels + channel[None, :]
        apart = tl.where(mask, tl.load(means + place, mask, 0) - centre[None, :], 0.0)
        total += tl.sum(tl.load(squares + place, mask, 0) + apart * apart * weight[:, None], 0)
        first += PIECES
    spread = total / count
    inside = channel < channels
    tl.store(mean + channel, centre, inside)
    tl.store(var + channel, spread, inside)
    if MOVED:
        old_mean = tl.load(running_mean + channel, inside, 0).to(tl.float64)
        old_var = tl.load(running_var + channel, inside, 0).to(tl.float64)
        new_mean = old_mean + momentum * (centre - old_mean)
        new_var = old_var + momentum * (spread * unbiased - old_var)
        tl.store(moved_mean + channel, _rounded(new_mean, moved_mean.dtype.element_ty), inside)
        tl.store(moved_var + channel, _rounded(new_var, moved_var.dtype.element_ty), inside)


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
    across = tl.cdiv(columns, COLUMNS)
    block = tl.program_id(0) % across
    row = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    place = row[:, None] * columns + column[None, :]
    mask = (row < rows)[:, None] & (column < columns)[None, :] & (place < total)
    channel = _across((column if LAST else row) % channels, LAST)
    z = _before_activation(input, residual, coefficients, place, channel, mask, channels, RESIDUAL, COMPUTE)
    if BITS:
        steep = (is_steep(z, ACTIVATION) & mask).to(tl.int32)
        eights = tl.reshape(steep, [ROWS, COLUMNS // 8, 8]) << tl.arange(0, 8)[None, None, :]
        byte = block * (COLUMNS // 8) + tl.arange(0, COLUMNS // 8)
        inside = (row < rows)[:, None] & (byte < row_bytes)[None, :]
        tl.store(bits + row[:, None] * row_bytes + byte[None, :], tl.sum(eights, 2).to(tl.uint8), inside)
    tl.store(out + place, activated(z, ACTIVATION).to(out.dtype.element_ty), mask)


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
    channel = _across(lane % channels, LAST)
    centre = tl.load(coefficients + channel)
    sum_inner = tl.zeros([LANES], tl.float64)
    sum_product = sum_inner
    first, end = run * RUN, tl.minimum(run * RUN + RUN, alongs)
    while first < end:
        along = first + tl.arange(0, STEPS)
        place = _places(lane, along, columns, LAST)
        mask = (_across(lane, LAST) < lanes) & (_across(along, not LAST) < end) & (place < total)
        byte, bit = _bits(lane, along, row_bytes, LAST)
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
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, GIVEN: tl.constexpr, COMPUTE: tl.constexpr,
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
    if WEIGHT:
        tl.store(grad_weight + channel, _rounded(by_weight, grad_weight.dtype.element_ty), inside)
    if BIAS:
        tl.store(grad_bias + channel, _rounded(total, grad_bias.dtype.element_ty), inside)
    scale = inverse
    if GIVEN:
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
    across = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    place = row[:, None] * columns + column[None, :]
    mask = (row < rows)[:, None] & (column < columns)[None, :] & (place < total)
    channel = _across((column if LAST else row) % channels, LAST)
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


@dataclass(frozen=True)
class Rows:
    """How an image lies in memory, and the tiles and runs that kernels take of it."""

    last: bool  # channels last
    rows: int
    columns: int
    repeats: int  # lanes of a channel
    pixels: int  # of all images: elements of a channel

    @classmethod
    def of(cls, image: Tensor) -> Rows:
        """Of a dense image that is not empty."""
        batch, channels, height, width = image.shape
        pixels = batch * height * width
        if not is_channels_last(image):
            return cls(False, batch * channels, height * width, batch, pixels)
        repeats = max(1, COLUMNS // channels)
        return cls(True, triton.cdiv(pixels, repeats), repeats * channels, repeats, pixels)

    @property
    def row_bytes(self) -> int:
        """Of a row's bits."""
        return (self.columns + 7) // 8

    def tile(self) -> tuple[int, dict[str, int]]:
        """How many tiles cover the rows, and a tile's sizes."""
        columns = min(max(triton.next_power_of_2(self.columns), 8), _TILE)
        rows = _TILE // columns
        count = triton.cdiv(self.rows, rows) * triton.cdiv(self.columns, columns)
        return count, {"ROWS": rows, "COLUMNS": columns}

    def runs(self) -> tuple[int, int, int, dict[str, int]]:
        """Lanes, their length, runs, and the constants of kernels that sum lanes."""
        lanes, along = (self.columns, self.rows) if self.last else (self.rows, self.columns)
        if self.last:
            run, wide = _RUN, _LANES
        else:
            run, wide = _LONG_RUN, max(1, _TILE // min(triton.next_power_of_2(along), _TILE))
        return lanes, along, triton.cdiv(along, run), {"RUN": run, "LANES": wide, "STEPS": _TILE // wide}


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def _laid_out(image: Tensor, last: bool) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _coefficients(
    image: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, kinds: int
) -> Tensor:
    channels = image.shape[1]
    wide = torch.float64 if image.dtype == torch.float64 else torch.float32
    out = image.new_empty((kinds, channels), dtype=wide)
    launch(
        coefficients_kernel, (triton.cdiv(channels, _CHANNELS),),
        *_present(mean.contiguous(), var.contiguous(), weight, bias), out, channels, eps,
        WEIGHT=weight is not None, BIAS=bias is not None, COMPUTE=_compute(image.dtype), CHANNELS=_CHANNELS,
    )  # fmt: skip
    return out


def _present(first: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Tensors for a kernel; in place of an absent one, which it does not read, the first."""
    return first, *(first if tensor is None else tensor.contiguous() for tensor in tensors)


def fused_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    residual: Tensor | None,
    activation: int,
    with_bits: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The operation `fused_batch_norm` on this backend; results as its shape rule has them."""
    image = _laid_out(input, is_channels_last(input))
    channels, count = image.shape[1], image.numel() // max(image.shape[1], 1)
    if training and count == 1:
        raise ValueError("input: expected more than one value per channel with training=True, got one")
    out = torch.empty_like(image)
    bits = image.new_empty(bits_shape(image) if with_bits else (0,), dtype=torch.uint8)
    mean, var = (image.new_zeros(channels if training else 0, dtype=torch.float64) for _ in range(2))
    moved_mean, moved_var = (
        estimate.clone() if training and estimate is not None else image.new_empty(0, dtype=torch.float32)
        for estimate in (running_mean, running_var)
    )
    results = (out, mean, var, moved_mean, moved_var, bits)
    if image.numel() == 0:
        return results
    rows, compute = Rows.of(image), _compute(image.dtype)
    if training:
        lanes, along, runs, constants = rows.runs()
        means, squares = (image.new_empty((runs, lanes), dtype=torch.float64) for _ in range(2))
        launch(
            moments_kernel, (runs * triton.cdiv(lanes, constants["LANES"]),),
            image, means, squares, lanes, along, rows.columns, image.numel(),
            LAST=rows.last, COMPUTE=compute, **constants,
        )  # fmt: skip
        moves = running_mean is not None and running_var is not None
        launch(
            statistics_kernel, (triton.cdiv(channels, _CHANNELS),),
            *_present(means, squares, mean, var, running_mean, running_var), moved_mean, moved_var,
            channels, rows.repeats, runs, along, rows.pixels, count, momentum, count / (count - 1),
            MOVED=moves, RUN=constants["RUN"], LAST=rows.last, PIECES=_PIECES, CHANNELS=_CHANNELS,
        )  # fmt: skip
    else:
        assert running_mean is not None
        assert running_var is not None
    used = (mean, var) if training or running_mean is None or running_var is None else (running_mean, running_var)
    coefficients = _coefficients(image, *used, weight, bias, eps, 3)
    other = None if residual is None else _laid_out(residual, rows.last)
    programs, tile = rows.tile()
    launch(
        output_kernel, (programs,),
        image, image if other is None else other, coefficients, out, bits,
        rows.rows, rows.columns, image.numel(), channels, rows.row_bytes,
        ACTIVATION=activation, BITS=with_bits, RESIDUAL=residual is not None, LAST=rows.last, COMPUTE=compute, **tile,
    )  # fmt: skip
    return results


def fused_batch_norm_backward(
    grad: Tensor,
    input: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    residual: Tensor | None,
    bits: Tensor,
    training: bool,
    eps: float,
    activation: int,
    with_affine: bool,
    with_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operation `fused_batch_norm_backward` on this backend; results as its shape rule has them."""
    if input is not None:
        last = is_channels_last(input)
    else:
        last = bits.ndim == 2 if bits.ndim > 1 else is_channels_last(grad)
    arriving = _laid_out(grad, last)
    image = arriving if input is None else _laid_out(input, last)
    channels, count = image.shape[1], image.numel() // max(image.shape[1], 1)
    grad_input = torch.empty_like(image)
    grad_residual = torch.empty_like(image) if with_residual else image.new_empty(0)
    grad_weight, grad_bias = (
        torch.zeros_like(parameter)
        if with_affine and parameter is not None
        else image.new_empty(0, dtype=torch.float32)
        for parameter in (weight, bias)
    )
    results = (grad_input, grad_weight, grad_bias, grad_residual)
    if image.numel() == 0:
        return results
    rows, compute = Rows.of(image), _compute(image.dtype)
    coefficients = _coefficients(image, mean, var, weight, bias, eps, 5)
    other = image if residual is None else _laid_out(residual, last)
    shared = {
        "ACTIVATION": activation,
        "KINK": activation in KINKED,
        "RESIDUAL": residual is not None,
        "LAST": last,
        "COMPUTE": compute,
    }
    if training or with_affine:
        lanes, along, runs, constants = rows.runs()
        sums, products = (image.new_empty((runs, lanes), dtype=torch.float64) for _ in range(2))
        launch(
            backward_sums_kernel, (runs * triton.cdiv(lanes, constants["LANES"]),),
            arriving, image, other, bits, coefficients, sums, products,
            lanes, along, rows.columns, image.numel(), channels, rows.row_bytes,
            **shared, **constants,
        )  # fmt: skip
        launch(
            backward_merge_kernel, (triton.cdiv(channels, _CHANNELS),),
            *_present(sums, products, mean, var, weight), coefficients, grad_weight, grad_bias,
            channels, runs * rows.repeats, count, eps,
            WEIGHT=grad_weight.numel() > 0, BIAS=grad_bias.numel() > 0, GIVEN=weight is not None,
            COMPUTE=compute, PIECES=_PIECES, CHANNELS=_CHANNELS,
        )  # fmt: skip
    programs, tile = rows.tile()
    launch(
        backward_kernel, (programs,),
        arriving, image, other, bits, coefficients, grad_input, grad_residual,
        rows.rows, rows.columns, image.numel(), channels, rows.row_bytes,
        TRAINING=training, BOTH=with_residual, **shared, **tile,
    )  # fmt: skip
    return results
