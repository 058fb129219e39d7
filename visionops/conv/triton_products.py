"""Triton kernels of the convolutions: implicit matrix products, whose factor of columns is read from the image.

Along each side of an image a window has a number of positions, a first pixel, a step from position to position, a
number of taps and a step from tap to tap; the taps have their weights and the positions their results at steps too.
"""

from __future__ import annotations

import triton
import triton.language as tl

from visionops._triton_activation import activated, slope


@triton.jit
def product_kernel(
    image, weight, bias, out,
    count, in_channels, out_channels,
    y_positions, height, y_first, y_step, y_taps, y_tap_step, y_weight_first, y_weight_step, y_out_first, y_out_step,
    x_positions, width, x_first, x_step, x_taps, x_tap_step, x_weight_first, x_weight_step, x_out_first, x_out_step,
    image_b, image_c, image_h, image_w,
    weight_g, weight_o, weight_i, weight_h, weight_w,
    out_b, out_c, out_h, out_w,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr, COMPUTE: tl.constexpr, WIDEN: tl.constexpr,
    POSITIONS: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Results of `count` positions and one group's filters. Programs: groups, blocks of positions, of filters."""
    position_blocks, filter_blocks = tl.cdiv(count, POSITIONS), tl.cdiv(out_channels, FILTERS)
    program = tl.program_id(0)
    group = (program // (position_blocks * filter_blocks)).to(tl.int64)
    position = (program // filter_blocks % position_blocks).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    filters = (program % filter_blocks).to(tl.int64) * FILTERS + tl.arange(0, FILTERS)
    number = position // (y_positions * x_positions)
    at_y, at_x = position // x_positions % y_positions, position % x_positions
    sums = tl.zeros([POSITIONS, FILTERS], COMPUTE)
    tap = 0
    while tap < y_taps * x_taps:
        i, j = tap // x_taps, tap % x_taps
        y, x = y_first + at_y * y_step + i * y_tap_step, x_first + at_x * x_step + j * x_tap_step
        inside = (position < count) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        pixel = image + number * image_b + group * in_channels * image_c + y * image_h + x * image_w
        row, column = y_weight_first + i * y_weight_step, x_weight_first + j * x_weight_step
        factor = weight + group * weight_g + filters * weight_o + row * weight_h + column * weight_w
        first = 0
        while first < in_channels:
            channel = (first + tl.arange(0, CHANNELS)).to(tl.int64)
            some = channel < in_channels
            left = tl.load(pixel[:, None] + channel[None, :] * image_c, inside[:, None] & some[None, :], 0)
            mask = some[:, None] & (filters < out_channels)[None, :]
            right = tl.load(factor[None, :] + channel[:, None] * weight_i, mask, 0)
            if WIDEN:
                left, right = left.to(COMPUTE), right.to(COMPUTE)
            sums += tl.dot(left, right, input_precision="ieee", out_dtype=COMPUTE)
            first += CHANNELS
        tap += 1
    wanted = filters < out_channels
    if HAS_BIAS:
        sums += tl.load(bias + group * out_channels + filters, wanted, 0).to(COMPUTE)[None, :]
    place = out + number * out_b + (y_out_first + at_y * y_out_step) * out_h + (x_out_first + at_x * x_out_step) * out_w
    place = place[:, None] + (group * out_channels + filters)[None, :] * out_c
    result = activated(sums, ACTIVATION).to(out.dtype.element_ty)
    tl.store(place, result, (position < count)[:, None] & wanted[None, :])


@triton.jit
def depthwise_kernel(
    image, weight, bias, out,
    count, channels, multiplier,
    y_positions, height, y_first, y_step, y_taps, y_tap_step, y_weight_first, y_weight_step, y_out_first, y_out_step,
    x_positions, width, x_first, x_step, x_taps, x_tap_step, x_weight_first, x_weight_step, x_out_first, x_out_step,
    image_b, image_c, image_h, image_w,
    weight_o, weight_h, weight_w,
    out_b, out_c, out_h, out_w,
    HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr, COMPUTE: tl.constexpr,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Results of `count` positions and `channels` filters of one channel each. Programs: positions, channels."""
    channel_blocks = tl.cdiv(channels, CHANNELS)
    program = tl.program_id(0)
    position = (program // channel_blocks).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    channel = (program % channel_blocks).to(tl.int64) * CHANNELS + tl.arange(0, CHANNELS)
    number = position // (y_positions * x_positions)
    at_y, at_x = position // x_positions % y_positions, position % x_positions
    wanted = channel < channels
    sums = tl.zeros([POSITIONS, CHANNELS], COMPUTE)
    tap = 0
    while tap < y_taps * x_taps:
        i, j = tap // x_taps, tap % x_taps
        y, x = y_first + at_y * y_step + i * y_tap_step, x_first + at_x * x_step + j * x_tap_step
        inside = (position < count) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        pixel = image + number * image_b + y * image_h + x * image_w
        row, column = y_weight_first + i * y_weight_step, x_weight_first + j * x_weight_step
        factor = tl.load(weight + channel * weight_o + row * weight_h + column * weight_w, wanted, 0)
        from_channel = (channel // multiplier * image_c)[None, :]
        value = tl.load(pixel[:, None] + from_channel, inside[:, None] & wanted[None, :], 0)
        sums += value.to(COMPUTE) * factor.to(COMPUTE)[None, :]
        tap += 1
    if HAS_BIAS:
        sums += tl.load(bias + channel, wanted, 0).to(COMPUTE)[None, :]
    place = out + number * out_b + (y_out_first + at_y * y_out_step) * out_h + (x_out_first + at_x * x_out_step) * out_w
    result = activated(sums, ACTIVATION).to(out.dtype.element_ty)
    tl.store(place[:, None] + channel[None, :] * out_c, result, (position < count)[:, None] & wanted[None, :])


@triton.jit
def weight_kernel(
    grad, image, out,
    count, in_channels, out_channels,
    y_positions, height, y_first, y_step, y_taps, y_tap_step,
    x_positions, width, x_first, x_step, x_taps, x_tap_step,
    grad_b, grad_c, grad_h, grad_w,
    image_b, image_c, image_h, image_w,
    COMPUTE: tl.constexpr, WIDEN: tl.constexpr,
    FILTERS: tl.constexpr, CHANNELS: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Sums over `count` positions: gradients by one tap of the weight, (groups * out_channels, in_channels, taps).

    Programs: groups, taps, blocks of filters, of channels.
    """
    filter_blocks, channel_blocks = tl.cdiv(out_channels, FILTERS), tl.cdiv(in_channels, CHANNELS)
    taps = y_taps * x_taps
    program = tl.program_id(0)
    channel = (program % channel_blocks).to(tl.int64) * CHANNELS + tl.arange(0, CHANNELS)
    filters = (program // channel_blocks % filter_blocks).to(tl.int64) * FILTERS + tl.arange(0, FILTERS)
    tap = program // (channel_blocks * filter_blocks) % taps
    group = (program // (channel_blocks * filter_blocks * taps)).to(tl.int64)
    i, j = tap // x_taps, tap % x_taps
    sums = tl.zeros([FILTERS, CHANNELS], COMPUTE)
    first = 0
    while first < count:
        position = (first + tl.arange(0, TERMS)).to(tl.int64)
        number = position // (y_positions * x_positions)
        at_y, at_x = position // x_positions % y_positions, position % x_positions
        y, x = y_first + at_y * y_step + i * y_tap_step, x_first + at_x * x_step + j * x_tap_step
        inside = (position < count) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        result = grad + number * grad_b + at_y * grad_h + at_x * grad_w + group * out_channels * grad_c
        mask = (filters < out_channels)[:, None] & (position < count)[None, :]
        left = tl.load(result[None, :] + filters[:, None] * grad_c, mask, 0)
        pixel = image + number * image_b + y * image_h + x * image_w + group * in_channels * image_c
        mask = inside[:, None] & (channel < in_channels)[None, :]
        right = tl.load(pixel[:, None] + channel[None, :] * image_c, mask, 0)
        if WIDEN:
            left, right = left.to(COMPUTE), right.to(COMPUTE)
        sums += tl.dot(left, right, input_precision="ieee", out_dtype=COMPUTE)
        first += TERMS
    place = out + ((group * out_channels + filters)[:, None] * in_channels + channel[None, :]) * taps + tap
    mask = (filters < out_channels)[:, None] & (channel < in_channels)[None, :]
    tl.store(place, sums.to(out.dtype.element_ty), mask)


@triton.jit
def activation_kernel(
    grad, value, out,
    count,
    ACTIVATION: tl.constexpr, COMPUTE: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """Write grad * the activation's slope at value, all (count,)."""
    at = tl.program_id(0).to(tl.int64) * VALUES + tl.arange(0, VALUES)
    before = tl.load(value + at, at < count, 0).to(COMPUTE)
    result = tl.load(grad + at, at < count, 0).to(COMPUTE) * slope(before, ACTIVATION)
    tl.store(out + at, result.to(out.dtype.element_ty), at < count)
