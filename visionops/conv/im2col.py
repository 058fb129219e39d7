"""The column matrix of an image and its adjoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from visionops import _check
from visionops._op import FLOATING, Gradient, Op, vmap_batches
from visionops.conv.window import image, positions, sides


def _fake_im2col(
    input: Tensor, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Tensor:
    size = (input.shape[2], input.shape[3])
    height, width = positions(size, list(kernel_size), list(stride), list(padding), list(dilation))
    rows = input.shape[1] * kernel_size[0] * kernel_size[1]
    return input.new_empty((input.shape[0], rows, height * width))


def _fake_col2im(
    input: Tensor,
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    channels = input.shape[1] // (kernel_size[0] * kernel_size[1])
    return input.new_empty((input.shape[0], channels, *output_size))


def _save_im2col(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, *ctx.rest = inputs
    ctx.size = list(input.shape[2:])


def _im2col_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return COL2IM(grad, ctx.size, *ctx.rest, backend=ctx.backend), None, None, None, None


def _save_col2im(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, *ctx.rest = inputs


def _col2im_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return IM2COL(grad, *ctx.rest, backend=ctx.backend), None, None, None, None, None


IM2COL = Op("im2col", fake=_fake_im2col, vmap=vmap_batches, gradient=Gradient(_save_im2col, _im2col_backward))
COL2IM = Op("col2im", fake=_fake_col2im, vmap=vmap_batches, gradient=Gradient(_save_col2im, _col2im_backward))


@IM2COL.public
def im2col(
    input: Tensor,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] = 1,
    *,
    backend: str | None = None,
) -> Tensor:
    """The patches of an image under a sliding window, as the columns of a matrix.

    out[b, (c kh + i) kw + j, y W' + x] = input[b, c, y S - P + i D, x S - P + j D], 0 outside the image.

    Args:
        input: (B, C, H, W) or (C, H, W) floating, of either layout.
        kernel_size: (kh, kw), or one integer for both, as all that follow.
        dilation: Pixels between neighbouring taps, D.
        padding: Zeros around the image on each side, P.
        stride: Pixels between neighbouring windows, S.
        backend: "native", or None for the first that can run.

    Returns:
        (B, C kh kw, L) or (C kh kw, L) in the input's dtype, where L = H' W' windows in row-major order and
        H' = floor((H + 2P - D (kh - 1) - 1) / S) + 1. Differentiable any number of times.

    Raises:
        ValueError: a shape does not fit, or the window not into the padded image.
        TypeError: not a floating tensor, or arguments that are not integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Chellapilla, Puri and Simard, High Performance Convolutional Neural Networks, IWFHR 2006; caffe's order.

    >>> im2col(torch.arange(9.0).reshape(1, 1, 3, 3), 2)[0]
    tensor([[0., 1., 3., 4.],
            [1., 2., 4., 5.],
            [3., 4., 6., 7.],
            [4., 5., 7., 8.]])
    """
    images = image(input)
    window = _window(kernel_size, dilation, padding, stride)
    positions((images.shape[2], images.shape[3]), window[0], window[3], window[2], window[1])
    columns: Tensor = IM2COL(images, *window, backend=backend)
    return columns if input.ndim == 4 else columns[0]


@COL2IM.public
def col2im(
    input: Tensor,
    output_size: tuple[int, int],
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] = 1,
    *,
    backend: str | None = None,
) -> Tensor:
    """The adjoint of `im2col`: each pixel is the sum of the column values that im2col copies from it.

    <col2im(a), b> = <a, im2col(b)>; windows that overlap add up, pixels under no window are 0.

    Args:
        input: (B, C kh kw, L) or (C kh kw, L) floating.
        output_size: (H, W) of the image.
        kernel_size: (kh, kw), or one integer for both, as all that follow.
        dilation: Pixels between neighbouring taps, D.
        padding: Zeros around the image on each side, P.
        stride: Pixels between neighbouring windows, S.
        backend: "native", or None for the first that can run.

    Returns:
        (B, C, H, W) or (C, H, W) in the input's dtype; 16-bit types are summed in float32. Differentiable any number
        of times.

    Raises:
        ValueError: a shape does not fit: rows no multiple of kh kw, columns not as many as windows.
        TypeError: not a floating tensor, or arguments that are not integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Chellapilla, Puri and Simard, High Performance Convolutional Neural Networks, IWFHR 2006; caffe's order.

    >>> col2im(torch.ones(1, 4, 4), (3, 3), 2)[0, 0]
    tensor([[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]])
    """
    _check.is_a("input", input, Tensor)
    if input.ndim not in (2, 3):
        raise ValueError(f"input: expected shape (B, C kh kw, L) or (C kh kw, L), got {_check.describe(input)}")
    _check.dtype("input", input, FLOATING, "floating")
    size = _check.pair("output_size", output_size, 0)
    window = _window(kernel_size, dilation, padding, stride)
    taps = window[0][0] * window[0][1]
    if input.shape[-2] % taps:
        raise ValueError(f"input: expected a multiple of {taps} rows, one per tap, got {_check.describe(input)}")
    height, width = positions((size[0], size[1]), window[0], window[3], window[2], window[1])
    if input.shape[-1] != height * width:
        raise ValueError(f"input: expected {height * width} columns, one per window, got {_check.describe(input)}")
    columns = input if input.ndim == 3 else input[None]
    images: Tensor = COL2IM(columns, size, *window, backend=backend)
    return images if input.ndim == 3 else images[0]


def _window(kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[list[int], ...]:
    """The window as the operations take it, padding as (top, bottom, left, right)."""
    return (
        _check.pair("kernel_size", kernel_size, 1),
        _check.pair("dilation", dilation, 1),
        sides("padding", padding),
        _check.pair("stride", stride, 1),
    )
