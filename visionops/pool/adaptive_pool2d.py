"""Averages and maxima of as many bins as are asked for, whatever the size of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._layout import empty_image
from visionops._op import Gradient, Op, vmap_batches
from visionops.pool.max_unpool2d import MAX_UNPOOL2D_TAKEN
from visionops.pool.window import as_batch, as_given, check_image

Ints = list[int]
# An integer for both axes, or (vertical, horizontal); None keeps an axis as it is.
Sizes = int | Sequence[int | None] | None


def _fake_avg(input: Tensor, size: Ints) -> Tensor:
    return empty_image(input, input.shape[1], *size)


def _fake_max(input: Tensor, size: Ints) -> tuple[Tensor, Tensor]:
    output = _fake_avg(input, size)
    return output, torch.empty_like(output, dtype=torch.int64)


def _save_avg(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.size = list(inputs[0].shape[2:])


def _backward_avg(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return ADAPTIVE_AVG_POOL2D_BACKWARD(grad, ctx.size, backend=ctx.backend), None


def _backward_of_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return ADAPTIVE_AVG_POOL2D(grad, ctx.size, backend=ctx.backend), None


def _save_max(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])
    ctx.size = list(inputs[0].shape[2:])


def _backward_max(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None]:
    return ADAPTIVE_MAX_POOL2D_BACKWARD(grad, *ctx.saved_tensors, ctx.size, backend=ctx.backend), None


def _fake_max_backward(grad: Tensor, indices: Tensor, size: Ints) -> Tensor:
    return empty_image(grad, grad.shape[1], *size)


def _save_indices(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward_of_max_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return MAX_UNPOOL2D_TAKEN(grad, *ctx.saved_tensors, backend=ctx.backend), None, None


# Two linear operations, each the other's adjoint; both take the size of what they return.
ADAPTIVE_AVG_POOL2D = Op(
    "adaptive_avg_pool2d", fake=_fake_avg, vmap=vmap_batches, gradient=Gradient(_save_avg, _backward_avg)
)
ADAPTIVE_AVG_POOL2D_BACKWARD = Op(
    "adaptive_avg_pool2d_backward",
    fake=_fake_avg,
    vmap=vmap_batches,
    gradient=Gradient(_save_avg, _backward_of_backward),
)
ADAPTIVE_MAX_POOL2D = Op(
    "adaptive_max_pool2d", fake=_fake_max, vmap=vmap_batches, gradient=Gradient(_save_max, _backward_max)
)
ADAPTIVE_MAX_POOL2D_BACKWARD = Op(
    "adaptive_max_pool2d_backward",
    fake=_fake_max_backward,
    vmap=vmap_batches,
    gradient=Gradient(_save_indices, _backward_of_max_backward),
)


@ADAPTIVE_AVG_POOL2D.public
def adaptive_avg_pool2d(input: Tensor, output_size: Sizes, *, backend: str | None = None) -> Tensor:
    """The averages of as many bins as are asked for.

    output[p, q] = mean of rows floor(p H / P) to ceil((p + 1) H / P) - 1 and likewise columns of the input

    Args:
        input: (B, C, H, W) or (C, H, W), floating, contiguous or channels_last: the result is laid out as it is.
        output_size: The bins down and across, an integer or (P, Q); None for as many as there are pixels.
        backend: "native", or None for the first that can run.

    Returns:
        (B, C, P, Q) or (C, P, Q) in the input's dtype; 16-bit types sum in float32. Differentiable any number of
        times.

    Raises:
        ValueError: a shape or size does not fit.
        TypeError: not a floating tensor, or sizes that are no integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: torch.nn.AdaptiveAvgPool2d.

    >>> adaptive_avg_pool2d(torch.tensor([[[1.0, 2.0, 3.0]]]), (1, 2))
    tensor([[[1.5000, 2.5000]]])
    """
    size = _checked(input, output_size)
    return as_given(ADAPTIVE_AVG_POOL2D(as_batch(input), size, backend=backend), input)


@ADAPTIVE_MAX_POOL2D.public
def adaptive_max_pool2d(
    input: Tensor, output_size: Sizes, return_indices: bool = False, *, backend: str | None = None
) -> Any:  # not a union: every caller knows whether it asked for `return_indices`
    """The maxima of as many bins as are asked for.

    output[p, q] = max of rows floor(p H / P) to ceil((p + 1) H / P) - 1 and likewise columns of the input

    A NaN in a bin is its maximum. Of equal maxima the first in row-major order counts, of several NaNs the last.

    Args:
        input: (B, C, H, W) or (C, H, W), floating, contiguous or channels_last: the result is laid out as it is.
        output_size: The bins down and across, an integer or (P, Q); None for as many as there are pixels.
        return_indices: Also return where the maxima stand.
        backend: "native", or None for the first that can run.

    Returns:
        (B, C, P, Q) or (C, P, Q) in the input's dtype, differentiable. With `return_indices` also int64 indices of
        that shape into the flattened H * W.

    Raises:
        ValueError: a shape or size does not fit.
        TypeError: not a floating tensor, or sizes that are no integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: torch.nn.AdaptiveMaxPool2d.

    >>> adaptive_max_pool2d(torch.tensor([[[1.0, 3.0, 2.0]]]), (1, 2), return_indices=True)
    (tensor([[[3., 3.]]]), tensor([[[1, 1]]]))
    """
    size = _checked(input, output_size)
    output, indices = ADAPTIVE_MAX_POOL2D(as_batch(input), size, backend=backend)
    return (as_given(output, input), as_given(indices, input)) if return_indices else as_given(output, input)


@ADAPTIVE_AVG_POOL2D.public
def global_avg_pool2d(input: Tensor, *, backend: str | None = None) -> Tensor:
    """The average of each plane: `adaptive_avg_pool2d` with one bin, (B, C, 1, 1) or (C, 1, 1).

    >>> global_avg_pool2d(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]))
    tensor([[[3.]]])
    """
    return adaptive_avg_pool2d(input, 1, backend=backend)


def _checked(input: Tensor, output_size: Sizes) -> list[int]:
    """The bins down and across; raise unless they and the image are as said."""
    check_image("input", input)
    height, width = input.shape[-2:]
    if height < 1 or width < 1:
        raise ValueError(f"input: expected a height and a width of at least 1, got {tuple(input.shape)}")
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(sizes) != 2:
        raise ValueError(f"output_size: expected an integer or two, got {output_size!r}")
    bins = []
    for side, size in zip((height, width), sizes, strict=True):
        if size is not None:
            if not _check.is_integer(size):
                raise TypeError(f"output_size: expected integers or None, got {type(size).__name__}")
            _check.integer("output_size", size)
            if size < 1:
                raise ValueError(f"output_size: expected 1 or more, got {size}")
        bins.append(side if size is None else size)
    return bins
