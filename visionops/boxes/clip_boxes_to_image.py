"""Boxes clamped to the image."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops._op import NUMBERS, ONCE, Gradient, Op, vmap_leading


def _fake(boxes: Tensor, height: float, width: float) -> Tensor:
    return boxes.new_empty(boxes.shape)


def _fake_backward(grad: Tensor, boxes: Tensor, height: float, width: float) -> Tensor:
    return boxes.new_empty(boxes.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes, *ctx.size = inputs
    ctx.save_for_backward(boxes)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return CLIP_BOXES_TO_IMAGE_BACKWARD(grad, *ctx.saved_tensors, *ctx.size, backend=ctx.backend), None, None


CLIP_BOXES_TO_IMAGE_BACKWARD = Op("clip_boxes_to_image_backward", fake=_fake_backward, vmap=vmap_leading, gradient=ONCE)
CLIP_BOXES_TO_IMAGE = Op("clip_boxes_to_image", fake=_fake, vmap=vmap_leading, gradient=Gradient(_save, _backward))


@CLIP_BOXES_TO_IMAGE.public
def clip_boxes_to_image(boxes: Tensor, size: tuple[float, float], *, backend: str | None = None) -> Tensor:
    """Boxes with x clamped to [0, width] and y to [0, height]; a NaN coordinate stays NaN.

    Args:
        boxes: (..., 4) xyxy in pixels, floating or integer.
        size: (height, width) of the image in pixels.
        backend: "native", or None for the first that can run.

    Returns:
        (..., 4), a new tensor in the boxes' dtype. Differentiable once: a gradient passes where the coordinate was
        inside or on the border.

    Raises:
        ValueError: the shape does not fit, or a size is negative or NaN.
        TypeError: not a tensor of numbers, or a size that is no number.
        NotImplementedError: no backend runs here; the message says why.

    >>> clip_boxes_to_image(torch.tensor([[-3.0, 2, 30, 40]]), (20, 10))
    tensor([[ 0.,  2., 10., 20.]])
    """
    _check.is_a("boxes", boxes, Tensor)
    _check.columns("boxes", boxes, 4, "(..., 4)")
    _check.dtype("boxes", boxes, NUMBERS, "floating or integer")
    height, width = _check.image_size("size", size)
    return CLIP_BOXES_TO_IMAGE(boxes, height, width, backend=backend)  # type: ignore[no-any-return]
