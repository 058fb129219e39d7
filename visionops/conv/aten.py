"""The convolutions by torch's own, cuDNN on a GPU, as a backend that says so.

On the CPU, where it is oneDNN, csrc/conv/aten_torch.cpp has the convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visionops._codes import ACTIVATIONS
from visionops._layout import empty_image, is_channels_last

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "leaky_relu": F.leaky_relu_,
    "relu6": lambda x: F.relu6(x, inplace=True),
    "silu": lambda x: F.silu(x, inplace=True),
    "hardswish": lambda x: F.hardswish(x, inplace=True),
    "gelu": F.gelu,
}
_ACTIVATE = {ACTIVATIONS[name]: function for name, function in _FUNCTIONS.items()}


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
    layout = _layout(input)
    input, sides = _evenly_padded(input, weight.shape[2:], stride, padding, dilation)
    # torch lets the weight's layout decide as well.
    out = torch.conv2d(input, weight.contiguous(memory_format=layout), bias, stride, sides, dilation, groups)
    out = out.contiguous(memory_format=layout)
    return _ACTIVATE[activation](out) if activation else out


def conv2d_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    """The operation `conv2d_backward`, which only this backend has: torch computes both gradients in one call."""
    return _gradients((True, True), grad, input, weight, stride, padding, dilation, groups)


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
    """The operation `conv_transpose2d` on this backend: torch's gradient of a convolution by its input."""
    whole = empty_image(input, weight.shape[1] * groups, *output_size)
    out, _ = _gradients((True, False), input, whole, weight, stride, padding, dilation, groups)
    return out if bias is None else out + bias[:, None, None]


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
    weight = input.new_empty((grad.shape[1], input.shape[1] // groups, *kernel_size))
    return _gradients((False, True), grad, input, weight, stride, padding, dilation, groups)[1]


def activation_backward(grad: Tensor, value: Tensor, activation: int) -> Tensor:
    """The operation `activation_backward` on this backend."""
    with torch.enable_grad():
        leaf = value.detach().requires_grad_()
        (out,) = torch.autograd.grad(_ACTIVATE[activation](leaf.clone()), leaf, grad)
    return out.contiguous(memory_format=_layout(value))


def _layout(image: Tensor) -> torch.memory_format:
    return torch.channels_last if is_channels_last(image) else torch.contiguous_format


def _even(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int] | None:
    """The padding for both sides that makes as many windows, if there is one."""
    for side in range(2):
        before, after = padding[2 * side : 2 * side + 2]
        spare = size[side] + before - dilation[side] * (kernel[side] - 1) - 1
        # It may make none, which positions() refuses.
        if before != after and (spare + before) // stride[side] != (spare + after) // stride[side]:
            return None
    return [padding[0], padding[2]]


def _evenly_padded(
    input: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Tensor, list[int]]:
    """The input and the padding for both sides; where there is none, the input padded."""
    sides = _even(input.shape[2:], kernel, stride, padding, dilation)
    if sides is not None:
        return input, sides
    top, bottom, left, right = padding
    padded = F.pad(input, (left, max(right, 0), top, max(bottom, 0)))
    height, width = (padded.shape[2 + side] + min(padding[2 * side + 1], 0) for side in range(2))
    return padded[:, :, :height, :width], [0, 0]


def _gradients(
    wanted: tuple[bool, bool], grad: Tensor, input: Tensor, weight: Tensor, *window: Any
) -> tuple[Tensor, Tensor]:
    """The gradients of a convolution by input and weight, in their layouts; of one alone, values are not used."""
    stride, padding, dilation, groups = window
    whole, sides = _evenly_padded(input, weight.shape[2:], stride, padding, dilation)
    by_input, by_weight, _ = torch.ops.aten.convolution_backward(
        grad, whole, weight, None, stride, sides, dilation, False, [0, 0], groups, [*wanted, False]
    )
    if wanted[0]:
        if whole is not input:
            top, bottom, left, right = padding
            height, width = input.shape[2:]
            # What was cut off may be all of the image and some of the padding.
            by_input = F.pad(by_input, (0, max(-right, 0), 0, max(-bottom, 0)))
            by_input = by_input[:, :, top : top + height, left : left + width]
        by_input = by_input.contiguous(memory_format=_layout(input))
    if wanted[1]:
        by_weight = by_weight.contiguous(memory_format=_layout(weight))
    return by_input, by_weight
