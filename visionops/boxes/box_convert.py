"""Conversion between the ways of writing an axis-aligned box."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops._codes import BOX_FORMATS
from visionops._op import NUMBERS, Gradient, Op, result_dtype, vmap_leading


def _fake(boxes: Tensor, in_format: int, out_format: int) -> Tensor:
    return boxes.new_empty(boxes.shape, dtype=result_dtype(boxes.dtype))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.formats = inputs[1:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return BOX_CONVERT_BACKWARD(grad, *ctx.formats, backend=ctx.backend), None, None


def _backward_of_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # The map is linear: the transpose of its transpose is the map.
    return BOX_CONVERT(grad, *ctx.formats, backend=ctx.backend), None, None


BOX_CONVERT_BACKWARD = Op(
    "box_convert_backward",
    fake=_fake,
    vmap=vmap_leading,
    gradient=Gradient(_save, _backward_of_backward),
)
BOX_CONVERT = Op("box_convert", fake=_fake, vmap=vmap_leading, gradient=Gradient(_save, _backward))


@BOX_CONVERT.public
def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str, *, backend: str | None = None) -> Tensor:
    """Boxes rewritten from one format to another.

    Args:
        boxes: (..., 4) in pixels, floating or integer.
        in_fmt: "xyxy" (two corners), "xywh" (first corner and size) or "cxcywh" (centre and size).
        out_fmt: Likewise.
        backend: "native", or None for the first that can run.

    Returns:
        (..., 4), a new tensor in the boxes' dtype; integers up to 16 bits become float32, wider ones float64, so
        that neither halves nor sums are lost. Differentiable any number of times.

    Raises:
        ValueError: the shape or a format does not fit.
        TypeError: not a tensor of numbers.
        NotImplementedError: no backend runs here; the message says why.

    >>> box_convert(torch.tensor([0.0, 0, 4, 2]), "xyxy", "cxcywh")
    tensor([2., 1., 4., 2.])
    """
    _check.is_a("boxes", boxes, Tensor)
    _check.columns("boxes", boxes, 4, "(..., 4)")
    _check.dtype("boxes", boxes, NUMBERS, "floating or integer")
    _check.one_of("in_fmt", in_fmt, BOX_FORMATS)
    _check.one_of("out_fmt", out_fmt, BOX_FORMATS)
    return BOX_CONVERT(boxes, BOX_FORMATS[in_fmt], BOX_FORMATS[out_fmt], backend=backend)  # type: ignore[no-any-return]
