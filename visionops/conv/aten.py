"""The convolutions by torch's own: oneDNN on the CPU, cuDNN on a GPU, as a backend that says so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from visionops._codes import ACTIVATIONS
from visionops._layout import is_channels_last

_FUNCTIONS = {
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
    input, sides = _evenly_padded(input, padding)
    # torch lets the weight's layout decide as well.
    out = torch.conv2d(input, weight.contiguous(memory_format=layout), bias, stride, sides, dilation, groups)  # type: ignore[call-overload]
    out = out.contiguous(memory_format=layout)
    return _ACTIVATE[activation](out) if activation else out  # type: ignore[no-any-return, operator]


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
    top, bottom, left, right = padding
    even = top == bottom and left == right
    height, width = output_size if even else (output_size[0] + top + bottom, output_size[1] + left + right)
    shape = (input.shape[0], weight.shape[1] * groups, height, width)
    sides = [top, left] if even else [0, 0]
    (out, _, _) = _backward(input, input.new_empty(()).expand(shape), weight, stride, sides, dilation, groups, 0)
    if not even:
        out = out[:, :, top : height - bottom, left : width - right]
    if bias is not None:
        out = out + bias[:, None, None]
    return out.contiguous(memory_format=_layout(input))


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
    input, sides = _evenly_padded(input, padding)
    weight = input.new_empty(()).expand(grad.shape[1], input.shape[1] // groups, *kernel_size)
    return _backward(grad, input, weight, stride, sides, dilation, groups, 1)[1].contiguous()


def activation_backward(grad: Tensor, value: Tensor, activation: int) -> Tensor:
    """The operation `activation_backward` on this backend."""
    with torch.enable_grad():
        leaf = value.detach().requires_grad_()
        (out,) = torch.autograd.grad(_ACTIVATE[activation](leaf.clone()), leaf, grad)  # type: ignore[no-untyped-call]
    return out.contiguous(memory_format=_layout(value))


def _layout(image: Tensor) -> torch.memory_format:
    return torch.channels_last if is_channels_last(image) else torch.contiguous_format


def _evenly_padded(input: Tensor, padding: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The input and the padding on both sides; where the sides differ, the input with them and none."""
    top, bottom, left, right = padding
    if top == bottom and left == right:
        return input, [top, left]
    return F.pad(input, (left, right, top, bottom)), [0, 0]


def _backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    which: int,
) -> tuple[Tensor, Tensor, Tensor]:
    mask = [which == 0, which == 1, False]
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        grad, input, weight, None, stride, padding, dilation, False, [0, 0], groups, mask
    )
