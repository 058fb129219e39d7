"""Room `boxes` on NumPy arrays; what each operation means stands in visionops.boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionops import _check
from visionops._codes import BOX_FORMATS, IOU_MODES
from visionops.numpy import _kernels
from visionops.numpy._arrays import boxes_of, contiguous, masks_of

Array = NDArray[Any]


def box_iou(boxes1: Array, boxes2: Array, *, mode: str = "iou", aligned: bool = False, pixel_offset: int = 0) -> Array:
    """Intersection over union of (..., N, 4) and (..., M, 4) boxes: (..., N, M), or (..., N) if aligned.

    As `visionops.box_iou`, with its modes and errors; different dtypes are promoted as NumPy does.

    >>> box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 1]]))
    array([[0.5]])
    """
    boxes1 = boxes_of("boxes1", boxes1, "(..., N, 4)", min_ndim=2)
    boxes2 = boxes_of("boxes2", boxes2, "(..., N, 4)", min_ndim=2)
    _check.one_of("mode", mode, IOU_MODES)
    _check.one_of("pixel_offset", pixel_offset, (0, 1))
    if aligned:
        _check.same_size("boxes2", boxes2, "boxes1", boxes1, -2)
    if boxes1.ndim > 2 or boxes2.ndim > 2:
        _check.broadcasts("boxes2", boxes2, "boxes1", boxes1)
        leading = np.broadcast_shapes(boxes1.shape[:-2], boxes2.shape[:-2])
        boxes1, boxes2 = (np.broadcast_to(boxes, (*leading, *boxes.shape[-2:])) for boxes in (boxes1, boxes2))
    if boxes1.dtype != boxes2.dtype:
        dtype = np.promote_types(boxes1.dtype, boxes2.dtype)
        boxes1, boxes2 = boxes1.astype(dtype), boxes2.astype(dtype)
    boxes1, boxes2 = contiguous(boxes1), contiguous(boxes2)
    return _kernels.box_iou(boxes1, boxes2, IOU_MODES[mode], bool(aligned), pixel_offset)


def generalized_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Generalised IoU of every pair of boxes: `box_iou` with mode "giou"."""
    return box_iou(boxes1, boxes2, mode="giou")


def distance_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Distance IoU of every pair of boxes: `box_iou` with mode "diou"."""
    return box_iou(boxes1, boxes2, mode="diou")


def complete_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Complete IoU of every pair of boxes: `box_iou` with mode "ciou"."""
    return box_iou(boxes1, boxes2, mode="ciou")


def wh_iou(wh1: Array, wh2: Array) -> Array:
    """Intersection over union, (..., N, M), of (..., N, 2) and (..., M, 2) widths and heights laid on one centre.

    >>> wh_iou(np.array([[2.0, 2]]), np.array([[1.0, 2]]))
    array([[0.5]])
    """
    wh1 = boxes_of("wh1", wh1, "(..., N, 2)", columns=2, min_ndim=2)
    wh2 = boxes_of("wh2", wh2, "(..., N, 2)", columns=2, min_ndim=2)
    _check.broadcasts("wh2", wh2, "wh1", wh1)
    wh1, wh2 = (np.concatenate([np.zeros_like(wh), wh], axis=-1) for wh in (wh1, wh2))
    return box_iou(wh1, wh2)


def box_convert(boxes: Array, in_fmt: str, out_fmt: str) -> Array:
    """(..., 4) boxes rewritten from one of "xyxy", "xywh", "cxcywh" to another, as `visionops.box_convert`.

    >>> box_convert(np.array([0.0, 0, 4, 2]), "xyxy", "cxcywh")
    array([2., 1., 4., 2.])
    """
    boxes = boxes_of("boxes", boxes, "(..., 4)")
    _check.one_of("in_fmt", in_fmt, BOX_FORMATS)
    _check.one_of("out_fmt", out_fmt, BOX_FORMATS)
    return _kernels.box_convert(boxes, BOX_FORMATS[in_fmt], BOX_FORMATS[out_fmt])


def box_area(boxes: Array, *, pixel_offset: int = 0) -> Array:
    """Areas (...) of (..., 4) boxes, as `visionops.box_area`."""
    boxes = boxes_of("boxes", boxes, "(..., 4)")
    _check.one_of("pixel_offset", pixel_offset, (0, 1))
    return _kernels.box_area(boxes, pixel_offset)


def clip_boxes_to_image(boxes: Array, size: tuple[float, float]) -> Array:
    """(..., 4) boxes clamped to an image of (height, width), as `visionops.clip_boxes_to_image`."""
    boxes = boxes_of("boxes", boxes, "(..., 4)")
    height, width = _check.image_size("size", size)
    return _kernels.clip_boxes_to_image(boxes, height, width)


def remove_small_boxes(boxes: Array, min_size: float) -> NDArray[np.int64]:
    """Indices of the (N, 4) boxes whose sides are both at least min_size, as `visionops.remove_small_boxes`."""
    boxes = boxes_of("boxes", boxes, "(N, 4)", ndim=2)
    _check.number("min_size", min_size)
    return _kernels.remove_small_boxes(boxes, float(min_size))


def masks_to_boxes(masks: Array) -> NDArray[np.float32]:
    """The smallest box, (N, 4), around each of the (N, H, W) masks, as `visionops.masks_to_boxes`."""
    return _kernels.masks_to_boxes(masks_of("masks", masks, "(N, H, W)"))


def mask_iou(masks1: Array, masks2: Array) -> NDArray[np.float32]:
    """IoU (N, M) of every pair of masks (N, H, W) and (M, H, W), as `visionops.mask_iou`."""
    masks1, masks2 = masks_of("masks1", masks1, "(N, H, W)"), masks_of("masks2", masks2, "(M, H, W)")
    _check.same_image_size("masks2", masks2, "masks1", masks1)
    return _kernels.mask_iou(masks1, masks2)
