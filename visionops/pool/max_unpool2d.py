"""Max pooling undone: values go back to the pixels that indices name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._layout import empty_image
from visionops._op import Gradient, Op, vmap_batches
from visionops.pool.window import Pair, as_batch, as_given, check_image, window_of

Ints = list[int]


def _fake(input: Tensor, indices: Tensor, size: Ints, adds: bool) -> Tensor:
    return empty_image(input, input.shape[1], *size)


def _fake_taken(image: Tensor, indices: Tensor) -> Tensor:
    return empty_image(indices, *indices.shape[1:], dtype=image.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return MAX_UNPOOL2D_TAKEN(grad, *ctx.saved_tensors, backend=ctx.backend), None, None, None


def _save_taken(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.size = list(inputs[0].shape[2:])


def _backward_of_taken(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return MAX_UNPOOL2D(grad, *ctx.saved_tensors, ctx.size, True, backend=ctx.backend), None


# With `adds`, values of one index are summed: then each of the two is the other's adjoint.
MAX_UNPOOL2D = Op("max_unpool2d", fake=_fake, vmap=vmap_batches, gradient=Gradient(_save, _backward))
MAX_UNPOOL2D_TAKEN = Op(
    "max_unpool2d_taken", fake=_fake_taken, vmap=vmap_batches, gradient=Gradient(_save_taken, _backward_of_taken)
)


@MAX_UNPOOL2D.public
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    output_size: Sequence[int] | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Max pooling undone: each value goes back to the pixel that its index names, all other pixels are 0.

    output.flatten()[indices[p, q]] = input[p, q] in each plane

    An index outside the image, as the -1 of `max_pool2d`, goes nowhere. Of several values with one index the last in
    row-major order counts; each of them receives the gradient of its pixel, as in torch.

    Args:
        input: (B, C, P, Q) or (C, P, Q), floating.
        indices: int64 of that shape, from `max_pool2d` with `return_indices`.
        kernel_size: Of the pooling, which with stride and padding gives the default of output_size.
        stride: Of the pooling; None for kernel_size.
        padding: Of the pooling.
        output_size: The (H, W) of the image, or its shape, which poolings of several sizes share: less than a stride
            from the default, (P - 1) * stride - 2 * padding + kernel_size. None for that.
        backend: "native", or None for the first that can run.

    Returns:
        (B, C, H, W) or (C, H, W) in the input's dtype and laid out as it is; differentiable in the input.

    Raises:
        ValueError: a shape or size does not fit.
        TypeError: not a floating tensor and int64 indices on one device, or sizes that are no integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Badrinarayanan et al., SegNet, arXiv:1511.00561; torch.nn.MaxUnpool2d.

    >>> max_unpool2d(torch.tensor([[[[5.0, 7.0]]]]), torch.tensor([[[[4, 3]]]]), 2)
    tensor([[[[0., 0., 0., 7.],
              [5., 0., 0., 0.]]]])
    """
    check_image("input", input)
    _check.is_a("indices", indices, Tensor)
    _check.dtype("indices", indices, (torch.int64,), "torch.int64")
    if indices.shape != input.shape:
        raise ValueError(f"indices: expected the shape of input, {tuple(input.shape)}, got {_check.describe(indices)}")
    _check.same_device("indices", indices, "input", input)
    size = _unpooled_size(input, kernel_size, stride, padding, output_size)
    return as_given(MAX_UNPOOL2D(as_batch(input), as_batch(indices), size, False, backend=backend), input)


def _unpooled_size(
    input: Tensor, kernel_size: Pair, stride: Pair | None, padding: Pair, output_size: Sequence[int] | None
) -> list[int]:
    window = window_of(kernel_size, stride, padding)
    default = [
        (count - 1) * step - 2 * pad + taps
        for count, taps, step, pad in zip(input.shape[-2:], window[:2], window[2:4], window[4:6], strict=True)
    ]
    if output_size is None:
        for side in default:
            if side < 1:
                raise ValueError(f"input: expected a size that unpools to at least one pixel, got {tuple(input.shape)}")
        return default
    if not isinstance(output_size, (tuple, list)) or len(output_size) not in (2, input.ndim):
        raise ValueError(f"output_size: expected (height, width) or the image's shape, got {output_size!r}")
    if len(output_size) > 2 and tuple(output_size[:-2]) != tuple(input.shape[:-2]):
        expected = (*input.shape[:-2], "H", "W")
        raise ValueError(f"output_size: expected {expected}, got {tuple(output_size)}")
    for side in output_size[-2:]:
        _check.integer("output_size", side)
    for side, middle, step in zip(output_size[-2:], default, window[2:4], strict=True):
        if not max(middle - step, 0) < side < middle + step:
            raise ValueError(f"output_size: expected less than {step} from {tuple(default)}, got {tuple(output_size)}")
    return list(output_size[-2:])
