"""What pooling operations share: windows over images, their checks, the sizes they give, and batches of images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from visionops import _check
from visionops._op import FLOATING

# An integer for both axes, or (vertical, horizontal).
Pair = int | Sequence[int]
# Kernel_size, stride, padding and dilation, each (vertical, horizontal): one list, for each that is handed to a torch
# operation costs as much as a small image.
Window = list[int]


def window_of(kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair = 1) -> Window:
    """The window that public arguments describe; raise TypeError or ValueError unless they do."""
    kernel = _check.pair("kernel_size", kernel_size, 1)
    strides = kernel if stride is None else _check.pair("stride", stride, 1)
    paddings = _check.pair("padding", padding, 0)
    dilations = _check.pair("dilation", dilation, 1)
    if paddings[0] > kernel[0] // 2 or paddings[1] > kernel[1] // 2:
        axis = 0 if paddings[0] > kernel[0] // 2 else 1
        raise ValueError(f"padding: expected at most half of kernel_size, {kernel[axis] // 2}, got {paddings[axis]}")
    return [*kernel, *strides, *paddings, *dilations]


def pooled_size(size: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil_mode: bool) -> int:
    """How many windows fit along an axis; with `ceil_mode` the last may reach beyond the padding, not begin there."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def pooled_sizes(sizes: Sequence[int], window: Window, ceil_mode: bool) -> tuple[int, int]:
    """The (height, width) of the result over images whose last two sizes are (H, W)."""
    height, width = sizes[-2:]
    rows, columns = window[::2], window[1::2]
    return pooled_size(height, *rows, ceil_mode=ceil_mode), pooled_size(width, *columns, ceil_mode=ceil_mode)


def check_image(name: str, image: Tensor) -> None:
    """Raise unless `image` is a floating tensor (B, C, H, W) or (C, H, W)."""
    _check.is_a(name, image, Tensor)
    if image.ndim not in (3, 4):
        raise ValueError(f"{name}: expected shape (B, C, H, W) or (C, H, W), got {_check.describe(image)}")
    _check.dtype(name, image, FLOATING, "floating")


def check_fits(name: str, sizes: Sequence[int], window: Window, ceil_mode: bool) -> None:
    """Raise ValueError unless at least one window fits into images whose last two sizes are (H, W)."""
    height, width = sizes[-2:]
    kernel_y, kernel_x, _, _, padding_y, padding_x, dilation_y, dilation_x = window
    if (
        0 < height > (kernel_y - 1) * dilation_y - 2 * padding_y
        and 0 < width > (kernel_x - 1) * dilation_x - 2 * padding_x
    ):
        return
    for size, side, values in ((height, "height", window[::2]), (width, "width", window[1::2])):
        kernel, stride, padding, dilation = values
        # In ceil_mode a last window that begins inside is enough.
        least = max(1, dilation * (kernel - 1) + 1 - 2 * padding - (stride - 1 if ceil_mode else 0))
        if size < least:
            raise ValueError(f"{name}: expected a {side} of at least {least} for this window, got {size}")


def check_backward(grad_output: Tensor, input_size: Sequence[int], window: Window, ceil_mode: bool) -> None:
    """Raise unless `grad_output` is what a gradient of the result over an input of this size looks like."""
    check_image("grad_output", grad_output)
    if not isinstance(input_size, (tuple, list)) or len(input_size) != grad_output.ndim:
        raise ValueError(f"input_size: expected {grad_output.ndim} sizes, as many as grad_output has, got {input_size}")
    for size in input_size:
        _check.count("input_size", size)
    check_fits("input_size", input_size, window, ceil_mode)
    expected = (*input_size[:-2], *pooled_sizes(input_size, window, ceil_mode))
    if tuple(grad_output.shape) != expected:
        raise ValueError(f"grad_output: expected shape {expected}, got {_check.describe(grad_output)}")


def as_batch(image: Tensor) -> Tensor:
    """(C, H, W) as (1, C, H, W); a batch as it is."""
    return image if image.ndim == 4 else image.unsqueeze(0)


def as_given(result: Tensor, image: Tensor) -> Tensor:
    """The result over `as_batch(image)` with as many dimensions as the image."""
    return result if image.ndim == 4 else result.squeeze(0)
