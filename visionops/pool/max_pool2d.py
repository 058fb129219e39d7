"""The maximum of each window of an image, where it stands, and the gradient that goes back to there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._layout import empty_image
from visionops._op import Gradient, Op, needs_autograd, vmap_batches
from visionops.pool.window import (
    Pair,
    Window,
    as_batch,
    as_given,
    check_backward,
    check_fits,
    check_image,
    pooled_sizes,
    window_of,
)


def _offsets_dtype(window: Window) -> torch.dtype:
    return torch.uint8 if window[0] * window[1] <= 256 else torch.int32


def _fake(input: Tensor, window: Window, ceil_mode: bool) -> Tensor:
    return empty_image(input, input.shape[1], *pooled_sizes(input.shape, window, ceil_mode))


def _fake_with_offsets(input: Tensor, window: Window, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    output = _fake(input, window, ceil_mode)
    return output, torch.empty_like(output, dtype=_offsets_dtype(window))


def _fake_backward(grad: Tensor, offsets: Tensor, size: list[int], window: Window) -> Tensor:
    return empty_image(offsets, offsets.shape[1], *size, dtype=grad.dtype)


def _fake_taken(input: Tensor, offsets: Tensor, window: Window) -> Tensor:
    return empty_image(offsets, *offsets.shape[1:], dtype=input.dtype)


def _fake_indices(offsets: Tensor, size: list[int], window: Window) -> Tensor:
    return empty_image(offsets, *offsets.shape[1:], dtype=torch.int64)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])
    ctx.size, ctx.window = list(inputs[0].shape[2:]), inputs[1]


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    (offsets,) = ctx.saved_tensors
    return MAX_POOL2D_BACKWARD(grad, offsets, ctx.size, ctx.window, backend=ctx.backend), None, None


def _save_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.size, ctx.window = list(inputs[0].shape[2:]), inputs[-1]


def _backward_of_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return MAX_POOL2D_TAKEN(grad, *ctx.saved_tensors, ctx.window, backend=ctx.backend), None, None, None


def _backward_of_taken(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return MAX_POOL2D_BACKWARD(grad, *ctx.saved_tensors, ctx.size, ctx.window, backend=ctx.backend), None, None


# Values alone, where nobody will ask for a gradient.
MAX_POOL2D = Op("max_pool2d", fake=_fake, vmap=vmap_batches)
MAX_POOL2D_WITH_OFFSETS = Op(
    "max_pool2d_with_offsets", fake=_fake_with_offsets, vmap=vmap_batches, gradient=Gradient(_save, _backward)
)
# Two linear operations, each the other's adjoint: to send to the taps that offsets name, and to take from there.
MAX_POOL2D_BACKWARD = Op(
    "max_pool2d_backward",
    fake=_fake_backward,
    vmap=vmap_batches,
    gradient=Gradient(_save_linear, _backward_of_backward),
)
MAX_POOL2D_TAKEN = Op(
    "max_pool2d_taken", fake=_fake_taken, vmap=vmap_batches, gradient=Gradient(_save_linear, _backward_of_taken)
)
MAX_POOL2D_INDICES = Op("max_pool2d_indices", fake=_fake_indices, vmap=vmap_batches)


@MAX_POOL2D_WITH_OFFSETS.public
def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    backend: str | None = None,
) -> Any:  # not a union: every caller knows whether it asked for `return_indices`
    """The maximum of each window of an image.

    output[p, q] = max over taps (r, c) of input[p * stride - padding + r * dilation, q * stride - ... + c * ...]

    Padding counts as -inf; a NaN in a window is its maximum. Of equal maxima the first in row-major order counts, of
    several NaNs the last, as in torch. For a gradient a byte per window is kept, where its maximum stands.

    Args:
        input: (B, C, H, W) or (C, H, W), floating, contiguous or channels_last: the result is laid out as it is.
        kernel_size: Taps of a window, an integer or (vertical, horizontal), as all that follow.
        stride: Pixels from a window to the next; None for kernel_size.
        padding: Pixels added at each border, at most half of kernel_size.
        dilation: Pixels from a tap to the next.
        ceil_mode: Let a last window reach beyond the padding, if it begins before.
        return_indices: Also return where the maxima stand.
        backend: "native", or None for the first that can run.

    Returns:
        (B, C, P, Q) or (C, P, Q) in the input's dtype, differentiable. With `return_indices` also int64 indices of
        that shape into the flattened H * W; -1 where every tap of a dilated window lies in the padding.

    Raises:
        ValueError: a shape or size does not fit.
        TypeError: not a floating tensor, or sizes that are no integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Riesenhuber and Poggio, Hierarchical models of object recognition in cortex, 1999; torch.nn.MaxPool2d.

    >>> max_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 3, 2, 1)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    check_image("input", input)
    window, ceil_mode = window_of(kernel_size, stride, padding, dilation), bool(ceil_mode)
    check_fits("input", input.shape, window, ceil_mode)
    image = as_batch(input)
    if not return_indices and not needs_autograd((image,)):
        return as_given(MAX_POOL2D(image, window, ceil_mode, backend=backend), input)
    output, offsets = MAX_POOL2D_WITH_OFFSETS(image, window, ceil_mode, backend=backend)
    output = as_given(output, input)
    if not return_indices:
        return output
    indices = MAX_POOL2D_INDICES(offsets, list(image.shape[2:]), window, backend=backend)
    return output, as_given(indices, input)


@MAX_POOL2D_WITH_OFFSETS.public
def max_pool2d_with_offsets(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The maximum of each window, and which tap of the window it is: `max_pool2d` with what its gradient needs.

    The offset of tap (row, column) is row * kernel width + column.

    Args:
        input: (B, C, H, W) or (C, H, W), floating.
        kernel_size: As in `max_pool2d`, and so are all that follow.
        stride: As in `max_pool2d`.
        padding: As in `max_pool2d`.
        dilation: As in `max_pool2d`.
        ceil_mode: As in `max_pool2d`.
        backend: "native", or None for the first that can run.

    Returns:
        The maxima, as `max_pool2d`, and offsets of their shape: uint8 for windows of at most 256 taps, else int32.

    Raises:
        ValueError, TypeError, NotImplementedError: as `max_pool2d`.

    >>> max_pool2d_with_offsets(torch.tensor([[[[1.0, 2, 3, 0]]]]), (1, 2))
    (tensor([[[[2., 3.]]]]), tensor([[[[1, 0]]]], dtype=torch.uint8))
    """
    check_image("input", input)
    window, ceil_mode = window_of(kernel_size, stride, padding, dilation), bool(ceil_mode)
    check_fits("input", input.shape, window, ceil_mode)
    output, offsets = MAX_POOL2D_WITH_OFFSETS(as_batch(input), window, ceil_mode, backend=backend)
    return as_given(output, input), as_given(offsets, input)


@MAX_POOL2D_BACKWARD.public
def max_pool2d_backward(
    grad_output: Tensor,
    offsets: Tensor,
    input_size: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """The gradient of `max_pool2d` with respect to its input: each value goes to the tap that its offset names.

    grad_input[i] = sum over the windows that hold pixel i, where it is the tap recorded, of grad_output. Each pixel
    collects from its windows in one order: the same bits in every run. An offset that names no tap inside the image
    sends its gradient nowhere.

    Args:
        grad_output: (B, C, P, Q) or (C, P, Q), floating.
        offsets: Of that shape, from `max_pool2d_with_offsets`: uint8 or int32, as the window has taps.
        input_size: The shape of the input, as many sizes as grad_output has.
        kernel_size: As in `max_pool2d`, and so are all that follow.
        stride: As in `max_pool2d`.
        padding: As in `max_pool2d`.
        dilation: As in `max_pool2d`.
        ceil_mode: As in `max_pool2d`.
        backend: "native", or None for the first that can run.

    Returns:
        A tensor of shape input_size in the dtype of grad_output, laid out as the offsets; differentiable in
        grad_output.

    Raises:
        ValueError: a shape or size does not fit.
        TypeError: not floating and integer tensors on one device, or sizes that are no integers.
        NotImplementedError: no backend runs here; the message says why.

    >>> _, offsets = max_pool2d_with_offsets(torch.tensor([[[[1.0, 2, 3, 0]]]]), (1, 3), 1)
    >>> max_pool2d_backward(torch.ones(1, 1, 1, 2), offsets, (1, 1, 1, 4), (1, 3), 1)
    tensor([[[[0., 0., 2., 0.]]]])
    """
    window = window_of(kernel_size, stride, padding, dilation)
    check_backward(grad_output, input_size, window, bool(ceil_mode))
    _check.is_a("offsets", offsets, Tensor)
    if offsets.shape != grad_output.shape:
        raise ValueError(
            f"offsets: expected the shape of grad_output, {tuple(grad_output.shape)}, got {_check.describe(offsets)}"
        )
    expected = _offsets_dtype(window)
    _check.dtype("offsets", offsets, (expected,), f"{expected} for {window[0] * window[1]} taps")
    _check.same_device("offsets", offsets, "grad_output", grad_output)
    arguments = as_batch(grad_output), as_batch(offsets), list(input_size[-2:]), window
    return as_given(MAX_POOL2D_BACKWARD(*arguments, backend=backend), grad_output)
