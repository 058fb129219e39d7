"""The convolutions on Triton: what each operation launches.

One kernel computes forward and transposed convolutions: the transposed one is a convolution for each phase of the
stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionops._backend import INTERPRETED
from visionops._layout import is_channels_last
from visionops._triton_launch import launch
from visionops.conv.triton_products import activation_kernel, depthwise_kernel, product_kernel, weight_kernel
from visionops.conv.triton_separable import separable_kernel
from visionops.conv.window import positions

# The interpreter takes as long for a small block as for a large one.
_POSITIONS, _FILTERS, _CHANNELS, _TERMS = (1024, 64, 64, 512) if INTERPRETED else (64, 64, 32, 32)
_VALUES = 8192 if INTERPRETED else 1024
# Of a product whose left factor is computed again for each block of filters.
_SEPARABLE_FILTERS = 128


@dataclass(frozen=True)
class _Axis:
    """One side of the window: position p and tap t meet the pixel first + p step + t tap_step.

    Their result is pixel out_first + p out_step, and the tap's weight is number weight_first + t weight_step.
    """

    positions: int
    size: int
    first: int
    step: int
    taps: int
    tap_step: int
    weight_first: int = 0
    weight_step: int = 1
    out_first: int = 0
    out_step: int = 1


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: int,
) -> Tensor:
    """The operation `conv2d` on this backend."""
    y, x = _axes((input.shape[2], input.shape[3]), weight.shape[2:], stride, padding, dilation)
    out = _empty(input, weight.shape[0], y.positions, x.positions)
    _convolve(input, weight, weight.stride(), bias, out, y, x, groups, activation)
    return out


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    output_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The operation `conv_transpose2d` on this backend: a launch for each phase of the stride."""
    y, x = _axes((output_size[0], output_size[1]), weight.shape[2:], stride, padding, dilation)
    out = _empty(input, weight.shape[1] * groups, output_size[0], output_size[1])
    by_in, by_out, *taps = weight.stride()
    for row in range(min(stride[0], output_size[0])):
        for column in range(min(stride[1], output_size[1])):
            _convolve(
                input, weight, (by_out, by_in, *taps), bias, out, _adjoint(y, row), _adjoint(x, column), groups, 0,
                group_stride=weight.shape[0] // groups * by_in,
            )  # fmt: skip
    return out


def conv2d_weight(
    grad: Tensor,
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The operation `conv2d_weight` on this backend."""
    y, x = _axes((input.shape[2], input.shape[3]), kernel_size, stride, padding, dilation)
    channels, filters = input.shape[1] // groups, grad.shape[1] // groups
    out = input.new_empty((grad.shape[1], channels, *kernel_size))
    if out.numel() == 0:
        return out
    blocks = triton.cdiv(filters, _FILTERS) * triton.cdiv(channels, _CHANNELS)
    launch(
        weight_kernel, (groups * y.taps * x.taps * blocks,),
        grad, input, out,
        input.shape[0] * y.positions * x.positions, channels, filters,
        *astuple(y)[:6], *astuple(x)[:6], *grad.stride(), *input.stride(),
        COMPUTE=_compute(input.dtype), WIDEN=INTERPRETED, FILTERS=_FILTERS, CHANNELS=_CHANNELS, TERMS=_TERMS,
    )  # fmt: skip
    return out


def depthwise_separable_conv2d(
    input: Tensor,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    pointwise_weight: Tensor,
    pointwise_bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    depthwise_activation: int,
    pointwise_activation: int,
) -> Tensor:
    """The operation `depthwise_separable_conv2d` on this backend."""
    y, x = _axes((input.shape[2], input.shape[3]), depthwise_weight.shape[2:], stride, padding, dilation)
    filters, channels = pointwise_weight.shape[:2]
    out = _empty(input, filters, y.positions, x.positions)
    count = input.shape[0] * y.positions * x.positions
    if out.numel() == 0:
        return out
    launch(
        separable_kernel, (triton.cdiv(count, _POSITIONS) * triton.cdiv(filters, _SEPARABLE_FILTERS),),
        input, depthwise_weight, _or_any(depthwise_bias, input), pointwise_weight, _or_any(pointwise_bias, input), out,
        count, channels, filters,
        *astuple(y)[:6], *astuple(x)[:6], *input.stride(),
        depthwise_weight.stride(0), *depthwise_weight.stride()[2:], *pointwise_weight.stride()[:2], *out.stride(),
        HAS_FILTER_BIAS=depthwise_bias is not None, HAS_BIAS=pointwise_bias is not None,
        MIDDLE=depthwise_activation, ACTIVATION=pointwise_activation,
        COMPUTE=_compute(input.dtype), WIDEN=INTERPRETED,
        POSITIONS=_POSITIONS, FILTERS=_SEPARABLE_FILTERS, CHANNELS=_CHANNELS,
    )  # fmt: skip
    return out


def activation_backward(grad: Tensor, value: Tensor, activation: int) -> Tensor:
    """The operation `activation_backward` on this backend."""
    out = _empty(value, *value.shape[1:])
    layout = torch.channels_last if is_channels_last(value) else torch.contiguous_format
    grad, value = grad.contiguous(memory_format=layout), value.contiguous(memory_format=layout)
    if out.numel():
        launch(
            activation_kernel, (triton.cdiv(out.numel(), _VALUES),),
            grad, value, out, out.numel(),
            ACTIVATION=activation, COMPUTE=_compute(value.dtype), VALUES=_VALUES,
        )  # fmt: skip
    return out


def _convolve(
    input: Tensor,
    weight: Tensor,
    strides: tuple[int, ...],
    bias: Tensor | None,
    out: Tensor,
    y: _Axis,
    x: _Axis,
    groups: int,
    activation: int,
    group_stride: int | None = None,
) -> None:
    """Launch the windows of one problem; strides are those of the weight as (out, in, row, column)."""
    count, channels, filters = input.shape[0] * y.positions * x.positions, input.shape[1] // groups, out.shape[1]
    if count == 0 or filters == 0:
        return
    constants = {"HAS_BIAS": bias is not None, "ACTIVATION": activation, "COMPUTE": _compute(input.dtype)}
    if channels == 1 and group_stride is None:
        launch(
            depthwise_kernel, (triton.cdiv(count, _POSITIONS) * triton.cdiv(filters, _CHANNELS),),
            input, weight, _or_any(bias, weight), out,
            count, filters, filters // groups,
            *astuple(y), *astuple(x), *input.stride(), strides[0], *strides[2:], *out.stride(),
            **constants, POSITIONS=_POSITIONS, CHANNELS=_CHANNELS,
        )  # fmt: skip
        return
    each = filters // groups
    launch(
        product_kernel, (groups * triton.cdiv(count, _POSITIONS) * triton.cdiv(each, _FILTERS),),
        input, weight, _or_any(bias, weight), out,
        count, channels, each,
        *astuple(y), *astuple(x), *input.stride(),
        each * strides[0] if group_stride is None else group_stride, *strides, *out.stride(),
        **constants, WIDEN=INTERPRETED, POSITIONS=_POSITIONS, FILTERS=_FILTERS, CHANNELS=_CHANNELS,
    )  # fmt: skip


def _axes(
    size: tuple[int, int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[_Axis, _Axis]:
    counts = positions(size, list(kernel), list(stride), list(padding), list(dilation))
    y, x = (_Axis(counts[d], size[d], -padding[2 * d], stride[d], kernel[d], dilation[d]) for d in (0, 1))
    return y, x


def _adjoint(axis: _Axis, phase: int) -> _Axis:
    """Every stride-th pixel of an axis' image, from `phase` on, as windows over the axis' positions."""
    fitting = [t for t in range(axis.taps) if (phase - axis.first - t * axis.tap_step) % axis.step == 0]
    first = fitting[0] if fitting else 0
    step = fitting[1] - first if len(fitting) > 1 else 1
    return _Axis(
        positions=-((phase - axis.size) // axis.step),
        size=axis.positions,
        first=(phase - axis.first - first * axis.tap_step) // axis.step,
        step=1,
        taps=len(fitting),
        tap_step=-step * axis.tap_step // axis.step,
        weight_first=first,
        weight_step=step,
        out_first=phase,
        out_step=axis.step,
    )


def _empty(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    layout = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    shape = (like.shape[0], channels, height, width)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def _or_any(bias: Tensor | None, any_other: Tensor) -> Tensor:
    """A bias as a kernel reads it; where there is none, what it gets instead and does not read."""
    return any_other if bias is None else bias.contiguous()


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32
