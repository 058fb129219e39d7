"""The Triton kernel of a depthwise convolution feeding a pointwise one: the values between them stay on chip."""

from __future__ import annotations

import triton
import triton.language as tl

from visionops._triton_activation import activated


@triton.jit
def separable_kernel(
    image, filters, filter_bias, weight, bias, out,
    count, channels, out_channels,
    y_positions, height, y_first, y_step, y_taps, y_tap_step,
    x_positions, width, x_first, x_step, x_taps, x_tap_step,
    image_b, image_c, image_h, image_w,
    filters_c, filters_h, filters_w,
    weight_o, weight_i,
    out_b, out_c, out_h, out_w,
    HAS_FILTER_BIAS: tl.constexpr, HAS_BIAS: tl.constexpr, MIDDLE: tl.constexpr, ACTIVATION: tl.constexpr,
    COMPUTE: tl.constexpr, WIDEN: tl.constexpr,
    POSITIONS: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Results of `count` positions and `out_channels` filters. Programs: blocks of positions, of filters.

    The depthwise values of a block of channels are computed, rounded to the image's type as one that was written would
    be, and multiplied with; each block of filters computes them again.
    """
    blocks = tl.cdiv(out_channels, FILTERS)
    program = tl.program_id(0)
    position = (program // blocks).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    filter = (program % blocks).to(tl.int64) * FILTERS + tl.arange(0, FILTERS)
    number = position // (y_positions * x_positions)
    at_y, at_x = position // x_positions % y_positions, position % x_positions
    corner = image + number * image_b
    sums = tl.zeros([POSITIONS, FILTERS], COMPUTE)
    first = 0
    while first < channels:
        channel = (first + tl.arange(0, CHANNELS)).to(tl.int64)
        some = channel < channels
        middle = tl.zeros([POSITIONS, CHANNELS], COMPUTE)
        tap = 0
        while tap < y_taps * x_taps:
            i, j = tap // x_taps, tap % x_taps
            y, x = y_first + at_y * y_step + i * y_tap_step, x_first + at_x * x_step + j * x_tap_step
            inside = (position < count) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            pixel = corner + y * image_h + x * image_w
            value = tl.load(pixel[:, None] + channel[None, :] * image_c, inside[:, None] & some[None, :], 0)
            factor = tl.load(filters + channel * filters_c + i * filters_h + j * filters_w, some, 0)
            middle += value.to(COMPUTE) * factor.to(COMPUTE)[None, :]
            tap += 1
        if HAS_FILTER_BIAS:
            middle += tl.load(filter_bias + channel, some, 0).to(COMPUTE)[None, :]
        left = activated(middle, MIDDLE).to(image.dtype.element_ty)
        mask = some[:, None] & (filter < out_channels)[None, :]
        right = tl.load(weight + filter[None, :] * weight_o + channel[:, None] * weight_i, mask, 0)
        if WIDEN:
            left, right = left.to(COMPUTE), right.to(COMPUTE)
        sums += tl.dot(left, right, input_precision="ieee", out_dtype=COMPUTE)
        first += CHANNELS
    wanted = filter < out_channels
    if HAS_BIAS:
        sums += tl.load(bias + filter, wanted, 0).to(COMPUTE)[None, :]
    place = out + number * out_b + at_y * out_h + at_x * out_w
    result = activated(sums, ACTIVATION).to(out.dtype.element_ty)
    tl.store(place[:, None] + filter[None, :] * out_c, result, (position < count)[:, None] & wanted[None, :])
