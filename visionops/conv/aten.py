"""The convolutions by torch's own: oneDNN on the CPU, cuDNN on a GPU, as a backend that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from visionops._codes import ACTIVATIONS
from visionops._layout import is_channels_last

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "leaky_relu": F.leaky_relu_,
    "relu6": lambda x: F.relu6(x, inplace=True),
    "silu": lambda x: F.silu(x, inplace=True),
    "hardswish": lambda x: F.hardswish(x, inplace=True),
    "gelu": F.gelu,
}
# oneDNN's kernels of these are wrong where those of wider types are not.
_NARROW = (torch.bfloat16, torch.float16)
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
    """The operation `conv2d` on this backend; on the CPU csrc/conv/aten_torch.cpp stands for it."""
    layout = _layout(input)
    input, sides = _evenly_padded(input, weight.shape[2:], stride, padding, dilation)
    # torch lets the weight's layout decide as well.
    out = torch.conv2d(input, weight.contiguous(memory_format=layout), bias, stride, sides, dilation, groups)
    out = out.contiguous(memory_format=layout)
    return _ACTIVATE[activation](out) if activation else out


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
    size = list(output_size)
    if _crashes(input, size, weight.shape[2:], padding, dilation):
        shift = None if bias is None else bias.float()
        wide = conv_transpose2d(input.float(), weight.float(), shift, size, stride, padding, dilation, groups)
        return wide.to(input.dtype)
    sides = _even(size, weight.shape[2:], stride, padding, dilation)
    top, bottom, left, right = (0, 0, 0, 0) if sides else padding
    shape = (input.shape[0], weight.shape[1] * groups, size[0] + top + bottom, size[1] + left + right)
    whole = input.new_empty(()).expand(shape)
    (out, _, _) = _backward(input, whole, weight, stride, sides or [0, 0], dilation, groups, 0)
    if not sides:
        # What is cut off may be all of the image and some of the padding.
        out = F.pad(out, (0, max(-right, 0), 0, max(-bottom, 0)))[:, :, top : top + size[0], left : left + size[1]]
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
    # oneDNN's gradient is wrong, with garbage from memory, for dilated windows, images or results one pixel wide, and
    # more padding than half a window.
    is_odd = max(dilation) > 1 or 1 in (input.shape[3], grad.shape[3])
    is_odd = is_odd or any(2 * padding[side] > kernel_size[side // 2] for side in range(4))
    if input.is_cpu and input.dtype in _NARROW and is_odd:
        wide = conv2d_weight(grad.float(), input.float(), kernel_size, stride, padding, dilation, groups)
        return wide.to(input.dtype)
    input, sides = _evenly_padded(input, kernel_size, stride, padding, dilation)
    weight = input.new_empty(()).expand(grad.shape[1], input.shape[1] // groups, *kernel_size)
    return _backward(grad, input, weight, stride, sides, dilation, groups, 1)[1].contiguous()


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


def _crashes(
    image: Tensor, size: Sequence[int], kernel: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether oneDNN would, in a 16-bit type: where the taps of a window may all miss the image."""
    if not (image.is_cpu and image.dtype in _NARROW):
        return False
    for side in range(2):
        reach = dilation[side] * (kernel[side] - 1)
        if max(padding[2 * side : 2 * side + 2]) > reach or (kernel[side] > 1 and dilation[side] > size[side]):
            return True
    return False


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
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, input, weight, None, stride, padding, dilation, False, [0, 0], groups, mask
    )
    return result
