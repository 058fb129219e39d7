"""What pooling operations share: windows over images, their checks, the sizes they give, and batches of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from visionops import _check
from visionops._op import FLOATING, batch_first

# An integer for both axes, or (vertical, horizontal).
Pair = int | Sequence[int]


class Window(NamedTuple):
    """The window of a pooling, each of its sizes (vertical, horizontal), in the order of the schemas."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    ceil_mode: bool


def window_of(kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil_mode: bool) -> Window:
    """The window that public arguments describe; raise TypeError or ValueError unless they do."""
    kernel = _check.pair("kernel_size", kernel_size, 1)
    window = Window(
        kernel,
        kernel if stride is None else _check.pair("stride", stride, 1),
        _check.pair("padding", padding, 0),
        _check.pair("dilation", dilation, 1),
        bool(ceil_mode),
    )
    for size, pad in zip(kernel, window.padding, strict=True):
        if pad > size // 2:
            raise ValueError(f"padding: expected at most half of kernel_size, {size // 2}, got {pad}")
    return window


def pooled_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows fit along an axis; with `ceil_mode` the last may reach beyond the padding, not begin there."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def pooled_sizes(sizes: Sequence[int], window: Window) -> tuple[int, int]:
    """The (height, width) of the result over images whose last two sizes are (H, W)."""
    height, width = (
        pooled_size(size, kernel, stride, padding, dilation, window.ceil_mode)
        for size, kernel, stride, padding, dilation in zip(sizes[-2:], *window[:4], strict=True)
    )
    return height, width


def check_image(name: str, image: Tensor) -> None:
    """Raise unless `image` is a floating tensor (B, C, H, W) or (C, H, W)."""
    _check.is_a(name, image, Tensor)
    if image.ndim not in (3, 4):
        raise ValueError(f"{name}: expected shape (B, C, H, W) or (C, H, W), got {_check.describe(image)}")
    _check.dtype(name, image, FLOATING, "floating")


def check_fits(name: str, sizes: Sequence[int], window: Window) -> None:
    """Raise ValueError unless at least one window fits into images whose last two sizes are (H, W)."""
    for axis, side in ((0, "height"), (1, "width")):
        kernel, _, padding, dilation = (values[axis] for values in window[:4])
        size, least = sizes[axis - 2], max(1, dilation * (kernel - 1) + 1 - 2 * padding)
        if window.ceil_mode:
            # A last window that begins inside is enough.
            least = max(1, least - window.stride[axis] + 1)
        if size < least:
            raise ValueError(f"{name}: expected a {side} of at least {least} for this window, got {size}")


def check_backward(grad_output: Tensor, input_size: Sequence[int], window: Window) -> None:
    """Raise unless `grad_output` is what a gradient of the result over an input of this size looks like."""
    check_image("grad_output", grad_output)
    if not isinstance(input_size, (tuple, list)) or len(input_size) != grad_output.ndim:
        raise ValueError(f"input_size: expected {grad_output.ndim} sizes, as many as grad_output has, got {input_size}")
    check_fits("input_size", input_size, window)
    expected = (*input_size[:-2], *pooled_sizes(input_size, window))
    if tuple(grad_output.shape) != expected:
        raise ValueError(f"grad_output: expected shape {expected}, got {_check.describe(grad_output)}")


def as_batch(image: Tensor) -> Tensor:
    """(C, H, W) as (1, C, H, W); a batch as it is."""
    return image if image.ndim == 4 else image.unsqueeze(0)


def as_given(result: Tensor, image: Tensor) -> Tensor:
    """The result over `as_batch(image)` with as many dimensions as the image."""
    return result if image.ndim == 4 else result.squeeze(0)


def vmap_images(raw: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
    """The batching rule of an operation on (B, C, H, W): a batch of batches is one larger batch."""
    tensors = batch_first(info, in_dims, args)
    images = [t.flatten(0, 1) if isinstance(t, Tensor) else t for t in tensors]
    results = raw(*images)

    def unfold(result: Tensor) -> Tensor:
        return result.reshape(info.batch_size, result.shape[0] // info.batch_size, *result.shape[1:])

    if isinstance(results, tuple):
        return tuple(unfold(r) for r in results), (0,) * len(results)
    return unfold(results), 0
