"""Areas of boxes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops._op import NUMBERS, ONCE, Gradient, Op, result_dtype, vmap_leading


def _fake(boxes: Tensor, pixel_offset: int) -> Tensor:
    return boxes.new_empty(boxes.shape[:-1], dtype=result_dtype(boxes.dtype))


def _fake_backward(grad: Tensor, boxes: Tensor, pixel_offset: int) -> Tensor:
    return boxes.new_empty(boxes.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes, ctx.pixel_offset = inputs
    ctx.save_for_backward(boxes)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return BOX_AREA_BACKWARD(grad, *ctx.saved_tensors, ctx.pixel_offset, backend=ctx.backend), None


BOX_AREA_BACKWARD = Op("box_area_backward", fake=_fake_backward, vmap=vmap_leading, gradient=ONCE)
BOX_AREA = Op("box_area", fake=_fake, vmap=vmap_leading, gradient=Gradient(_save, _backward))


@BOX_AREA.public
def box_area(boxes: Tensor, *, pixel_offset: int = 0, backend: str | None = None) -> Tensor:
    """Area of each box: max(x2 - x1 + offset, 0) * max(y2 - y1 + offset, 0).

    Args:
        boxes: (..., 4) xyxy in pixels, floating or integer.
        pixel_offset: 1 if x2 and y2 name the last pixel inside the box.
        backend: "native", or None for the first that can run.

    Returns:
        (...) in square pixels, in the boxes' dtype; float32 for integers up to 16 bits, float64 for wider ones, so
        that no area wraps. Differentiable once.

    Raises:
        ValueError: the shape or the pixel_offset does not fit.
        TypeError: not a tensor of numbers.
        NotImplementedError: no backend runs here; the message says why.

    >>> box_area(torch.tensor([[0, 0, 50_000, 50_000]], dtype=torch.int32))
    tensor([2.5000e+09], dtype=torch.float64)
    """
    _check.is_a("boxes", boxes, Tensor)
    _check.columns("boxes", boxes, 4, "(..., 4)")
    _check.dtype("boxes", boxes, NUMBERS, "floating or integer")
    _check.one_of("pixel_offset", pixel_offset, (0, 1))
    return BOX_AREA(boxes, pixel_offset, backend=backend)  # type: ignore[no-any-return]
