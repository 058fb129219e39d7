"""Intersection over union of two sets of boxes, and its relatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionops import _check, _direct
from visionops._backend import NATIVE, TRITON
from visionops._codes import IOU_MODES
from visionops._op import FLOATING, NUMBERS, ONCE, Gradient, Op, result_dtype, vmap_leading


def _fake(boxes1: Tensor, boxes2: Tensor, mode: int, aligned: bool, pixel_offset: int) -> Tensor:
    sizes = boxes1.shape[:-1] if aligned else (*boxes1.shape[:-1], boxes2.shape[-2])
    return boxes1.new_empty(sizes, dtype=result_dtype(boxes1.dtype))


def _fake_backward(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor, mode: int, aligned: bool, pixel_offset: int
) -> tuple[Tensor, Tensor]:
    return boxes1.new_empty(boxes1.shape), boxes2.new_empty(boxes2.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, *ctx.rest = inputs
    ctx.save_for_backward(boxes1, boxes2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *BOX_IOU_BACKWARD(grad, *ctx.saved_tensors, *ctx.rest, backend=ctx.backend), None, None, None


BACKENDS = (NATIVE, TRITON)
BOX_IOU_BACKWARD = Op("box_iou_backward", fake=_fake_backward, vmap=vmap_leading, gradient=ONCE, backends=BACKENDS)
BOX_IOU = Op("box_iou", fake=_fake, vmap=vmap_leading, gradient=Gradient(_save, _backward), backends=BACKENDS)


def _check_set(name: str, boxes: Any, columns: int) -> None:
    # To call checks takes an eighth of a call on a few boxes: a function is called only to say what is wrong.
    if not isinstance(boxes, Tensor):
        _check.is_a(name, boxes, Tensor)
    shape = boxes.shape
    if len(shape) < 2 or shape[-1] != columns:
        _check.columns(name, boxes, columns, f"(..., N, {columns})", min_ndim=2)
    if boxes.dtype not in NUMBERS:
        _check.dtype(name, boxes, NUMBERS, "floating or integer")


@BOX_IOU.public
def box_iou(
    boxes1: Tensor,
    boxes2: Tensor,
    *,
    mode: str = "iou",
    aligned: bool = False,
    pixel_offset: int = 0,
    backend: str | None = None,
) -> Tensor:
    """Intersection over union of every box of one set with every box of another.

    With I the area of the intersection, U = area1 + area2 - I, C the smallest enclosing box, d the distance of the
    centres, c the diagonal of C and v = 4/pi^2 (atan(w1/h1) - atan(w2/h2))^2:

    - "iou": I / U
    - "giou": IoU - (|C| - U) / |C|
    - "diou": IoU - d^2 / c^2
    - "ciou": DIoU - alpha v, alpha = v / (1 - IoU + v), constant in the gradient
    - "iof": I / area1

    A quotient that is not finite counts as 0: empty, infinite and NaN boxes overlap nothing. Inverted boxes are
    empty. Values and gradients are finite for all finite boxes.

    Args:
        boxes1: (..., N, 4) xyxy in pixels, floating or integer.
        boxes2: (..., M, 4) xyxy in pixels; leading sizes broadcast with those of boxes1, dtypes are promoted, integers
            without being rounded to a narrow one.
        mode: "iou", "giou", "diou", "ciou" or "iof".
        aligned: Pair box i with box i (N == M) instead of all with all.
        pixel_offset: 1 if x2 and y2 name the last pixel inside the box, as in the classic inclusive convention.
        backend: "native" or "triton", or None for the first that can run.

    Returns:
        (..., N, M), or (..., N) if aligned, in the boxes' dtype; float32 for integers up to 16 bits, float64 for
        wider ones. Differentiable once in both sets.

    Raises:
        ValueError: a shape, the mode or the pixel_offset does not fit.
        TypeError: not tensors of numbers on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Rezatofighi et al., arXiv:1902.09630 (giou); Zheng et al., arXiv:1911.08287 (diou, ciou).

    >>> box_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [0, 0, 2, 2]]))
    tensor([[0.3333, 1.0000]])
    """
    if type(mode) is not str or mode not in IOU_MODES:
        _check.one_of("mode", mode, IOU_MODES)
    if type(pixel_offset) is not int or pixel_offset not in (0, 1):
        _check.one_of("pixel_offset", pixel_offset, (0, 1))
    if backend is None and not torch.compiler.is_dynamo_compiling():
        direct = _direct.box_iou(boxes1, boxes2, IOU_MODES[mode], aligned, pixel_offset)
        if direct is not None:
            return direct
    _check_set("boxes1", boxes1, 4)
    _check_set("boxes2", boxes2, 4)
    if boxes1.device != boxes2.device:
        _check.same_device("boxes2", boxes2, "boxes1", boxes1)
    narrow = None
    if boxes1.dtype != boxes2.dtype:
        dtype = torch.promote_types(boxes1.dtype, boxes2.dtype)
        if dtype in FLOATING:
            # A narrow result is no reason to round the integers that it comes from.
            narrow, dtype = dtype, torch.promote_types(result_dtype(boxes1.dtype), result_dtype(boxes2.dtype))
        boxes1, boxes2 = boxes1.to(dtype), boxes2.to(dtype)
    if aligned:
        _check.same_size("boxes2", boxes2, "boxes1", boxes1, -2)
    if boxes1.ndim > 2 or boxes2.ndim > 2:
        _check.broadcasts("boxes2", boxes2, "boxes1", boxes1)
        leading = torch.broadcast_shapes(boxes1.shape[:-2], boxes2.shape[:-2])  # type: ignore[no-untyped-call]
        boxes1, boxes2 = boxes1.expand(*leading, *boxes1.shape[-2:]), boxes2.expand(*leading, *boxes2.shape[-2:])
    out: Tensor = BOX_IOU(boxes1, boxes2, IOU_MODES[mode], bool(aligned), pixel_offset, backend=backend)
    return out if narrow is None else out.to(narrow)


@BOX_IOU.public
def generalized_box_iou(boxes1: Tensor, boxes2: Tensor, *, backend: str | None = None) -> Tensor:
    """Generalised IoU (arXiv:1902.09630) of every pair of boxes: `box_iou` with mode "giou".

    >>> generalized_box_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))
    tensor([[-0.3333]])
    """
    return box_iou(boxes1, boxes2, mode="giou", backend=backend)


@BOX_IOU.public
def distance_box_iou(boxes1: Tensor, boxes2: Tensor, *, backend: str | None = None) -> Tensor:
    """Distance IoU (arXiv:1911.08287) of every pair of boxes: `box_iou` with mode "diou".

    >>> distance_box_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))
    tensor([[-0.4000]])
    """
    return box_iou(boxes1, boxes2, mode="diou", backend=backend)


@BOX_IOU.public
def complete_box_iou(boxes1: Tensor, boxes2: Tensor, *, backend: str | None = None) -> Tensor:
    """Complete IoU (arXiv:1911.08287) of every pair of boxes: `box_iou` with mode "ciou".

    >>> complete_box_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))
    tensor([[-0.4000]])
    """
    return box_iou(boxes1, boxes2, mode="ciou", backend=backend)


@BOX_IOU.public
def wh_iou(wh1: Tensor, wh2: Tensor, *, backend: str | None = None) -> Tensor:
    """Intersection over union of boxes laid on one centre: YOLO's relative IoU of widths and heights.

    min(w1, w2) min(h1, h2) / (w1 h1 + w2 h2 - min(w1, w2) min(h1, h2))

    Args:
        wh1: (..., N, 2) widths and heights in pixels, floating or integer.
        wh2: (..., M, 2) likewise; leading sizes broadcast.
        backend: "native" or "triton", or None for the first that can run.

    Returns:
        (..., N, M), dtype as `box_iou`. Differentiable once in both.

    Raises:
        ValueError: a shape does not fit.
        TypeError: not tensors of numbers on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Redmon and Farhadi, YOLO9000, arXiv:1612.08242, section 2.

    >>> wh_iou(torch.tensor([[2.0, 2]]), torch.tensor([[1.0, 2]]))
    tensor([[0.5000]])
    """
    _check_set("wh1", wh1, 2)
    _check_set("wh2", wh2, 2)
    _check.same_device("wh2", wh2, "wh1", wh1)
    _check.broadcasts("wh2", wh2, "wh1", wh1)
    # Laid on one corner, boxes overlap as much as laid on one centre.
    corner = (2, 0)
    return box_iou(torch.nn.functional.pad(wh1, corner), torch.nn.functional.pad(wh2, corner), backend=backend)
