"""The average of each window of an image, and the gradient that it spreads back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from visionops import _check
from visionops._layout import empty_image
from visionops._op import Gradient, Op, vmap_batches
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


def _fake(
    input: Tensor, window: Window, ceil_mode: bool, count_include_pad: bool, divisor_override: int | None
) -> Tensor:
    return empty_image(input, input.shape[1], *pooled_sizes(input.shape, window, ceil_mode))


def _fake_backward(
    grad: Tensor,
    size: list[int],
    window: Window,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    return empty_image(grad, grad.shape[1], *size)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, *ctx.rest = inputs
    ctx.size = list(image.shape[2:])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return AVG_POOL2D_BACKWARD(grad, ctx.size, *ctx.rest, backend=ctx.backend), *(None,) * 4


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, *ctx.rest = inputs


def _backward_of_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return AVG_POOL2D(grad, *ctx.rest, backend=ctx.backend), *(None,) * 5


# Two linear operations, each the other's adjoint.
AVG_POOL2D = Op("avg_pool2d", fake=_fake, vmap=vmap_batches, gradient=Gradient(_save, _backward))
AVG_POOL2D_BACKWARD = Op(
    "avg_pool2d_backward",
    fake=_fake_backward,
    vmap=vmap_batches,
    gradient=Gradient(_save_backward, _backward_of_backward),
)


@AVG_POOL2D.public
def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """The average of each window of an image.

    output[p, q] = sum over taps (r, c) of input[p * stride - padding + r, q * stride - padding + c] / divisor

    Padding counts as 0. The divisor is the number of taps inside the image and, with `count_include_pad`, its
    padding; what `ceil_mode` adds beyond that never counts.

    Args:
        input: (B, C, H, W) or (C, H, W), floating, contiguous or channels_last: the result is laid out as it is.
        kernel_size: Taps of a window, an integer or (vertical, horizontal), as all that follow.
        stride: Pixels from a window to the next; None for kernel_size.
        padding: Pixels added at each border, at most half of kernel_size.
        ceil_mode: Let a last window reach beyond the padding, if it begins before.
        count_include_pad: Whether taps in the padding count in the divisor.
        divisor_override: The divisor of all windows instead, not 0; None for none.
        backend: "native", or None for the first that can run.

    Returns:
        (B, C, P, Q) or (C, P, Q) in the input's dtype; 16-bit types sum in float32. Differentiable any number of
        times.

    Raises:
        ValueError: a shape or size does not fit.
        TypeError: not a floating tensor, or sizes that are no integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998; torch.nn.AvgPool2d.

    >>> avg_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 2)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    check_image("input", input)
    window, ceil_mode = window_of(kernel_size, stride, padding), bool(ceil_mode)
    check_fits("input", input.shape, window, ceil_mode)
    check_divisor(divisor_override)
    options = window, ceil_mode, bool(count_include_pad), divisor_override
    return as_given(AVG_POOL2D(as_batch(input), *options, backend=backend), input)


@AVG_POOL2D_BACKWARD.public
def avg_pool2d_backward(
    grad_output: Tensor,
    input_size: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """The gradient of `avg_pool2d` with respect to its input: each value is spread equally over its window.

    grad_input[i] = sum over the windows that hold pixel i of grad_output / divisor. The sum of all gradients is
    preserved where the divisor counts the taps inside the image: without padding, or with count_include_pad=False.

    Args:
        grad_output: (B, C, P, Q) or (C, P, Q), floating.
        input_size: The shape of the input, as many sizes as grad_output has.
        kernel_size: As in `avg_pool2d`, and so are all that follow.
        stride: As in `avg_pool2d`.
        padding: As in `avg_pool2d`.
        ceil_mode: As in `avg_pool2d`.
        count_include_pad: As in `avg_pool2d`.
        divisor_override: As in `avg_pool2d`.
        backend: "native", or None for the first that can run.

    Returns:
        A tensor of shape input_size in the dtype of grad_output and laid out as it is; differentiable any number of
        times.

    Raises:
        ValueError, TypeError, NotImplementedError: as `avg_pool2d`.

    >>> avg_pool2d_backward(torch.tensor([[[[4.0, 8.0]]]]), (1, 1, 2, 4), 2)
    tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """
    window, ceil_mode = window_of(kernel_size, stride, padding), bool(ceil_mode)
    check_backward(grad_output, input_size, window, ceil_mode)
    check_divisor(divisor_override)
    options = window, ceil_mode, bool(count_include_pad), divisor_override
    result = AVG_POOL2D_BACKWARD(as_batch(grad_output), list(input_size[-2:]), *options, backend=backend)
    return as_given(result, grad_output)


def check_divisor(divisor_override: int | None) -> None:
    """Raise unless it is None or an integer other than 0."""
    if divisor_override is None:
        return
    _check.integer("divisor_override", divisor_override)
    if divisor_override == 0:
        raise ValueError("divisor_override: expected an integer other than 0, got 0")
