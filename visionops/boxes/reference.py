"""What the box operations mean, in NumPy and float64: the text that every kernel is tested against."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def box_convert(boxes: Array, in_fmt: str, out_fmt: str) -> Float64:
    """Rewrites boxes (..., 4) from one of xyxy, xywh, cxcywh to another; integers become floats."""
    box = boxes.astype(np.float64)
    first, second = box[..., :2], box[..., 2:]
    with np.errstate(all="ignore"):
        if in_fmt == "xyxy":
            low, high, centre, size = first, second, (first + second) / 2, second - first
        elif in_fmt == "xywh":
            low, high, centre, size = first, first + second, first + second / 2, second
        elif in_fmt == "cxcywh":
            low, high, centre, size = first - second / 2, first + second / 2, first, second
        else:
            raise ValueError(f"in_fmt: expected xyxy, xywh or cxcywh, got {in_fmt!r}")
    if out_fmt == "xyxy":
        return np.concatenate([low, high], axis=-1)
    if out_fmt == "xywh":
        return np.concatenate([low, size], axis=-1)
    if out_fmt == "cxcywh":
        return np.concatenate([centre, size], axis=-1)
    raise ValueError(f"out_fmt: expected xyxy, xywh or cxcywh, got {out_fmt!r}")


def box_area(boxes: Array, *, pixel_offset: int = 0) -> Float64:
    """Width times height of boxes (..., 4) xyxy; 0 for inverted ones."""
    box = boxes.astype(np.float64)
    return _area(_sides(box[..., :2], box[..., 2:], pixel_offset))


def clip_boxes_to_image(boxes: Array, size: tuple[int, int]) -> Array:
    """Clamps x to [0, width] and y to [0, height] for size (height, width); integer boxes keep their dtype."""
    height, width = size
    upper = np.array([width, height, width, height])
    if np.issubdtype(boxes.dtype, np.integer):
        # A bound that the dtype cannot hold binds nothing in it. No float64 here: it would round a large int64.
        largest = np.iinfo(boxes.dtype).max
        limit = np.minimum(upper, largest).astype(boxes.dtype)
        return np.asarray(np.minimum(np.maximum(boxes, boxes.dtype.type(0)), limit))
    return np.minimum(np.maximum(boxes.astype(np.float64), 0.0), upper.astype(np.float64))


def remove_small_boxes(boxes: Array, min_size: float) -> Int64:
    """Indices of the boxes (N, 4) whose sides are both at least min_size; a NaN side is small."""
    box = boxes.astype(np.float64)
    with np.errstate(invalid="ignore"):
        side = box[:, 2:] - box[:, :2]
    return np.flatnonzero((side >= min_size).all(axis=-1)).astype(np.int64)


def masks_to_boxes(masks: Array) -> Float64:
    """The first and last column and row that each mask (N, H, W) touches, as (N, 4) xyxy; zeros for an empty one."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        y, x = np.nonzero(mask)
        if len(x):
            box[:] = x.min(), y.min(), x.max(), y.max()
    return boxes


def mask_iou(masks1: Array, masks2: Array) -> Float64:
    """Pixels in both over pixels in either, of each mask (N, H, W) with each (M, H, W), as (N, M); 0 if in none."""
    a, b = ((m.reshape(len(m), m.shape[1] * m.shape[2]) != 0).astype(np.float64) for m in (masks1, masks2))
    common = a @ b.T
    both = a.sum(axis=1)[:, None] + b.sum(axis=1) - common
    return np.asarray(common / np.maximum(both, 1))


def box_iou(
    boxes1: Array, boxes2: Array, *, mode: str = "iou", aligned: bool = False, pixel_offset: int = 0
) -> Float64:
    """Overlap of boxes (..., N, 4) with (..., M, 4) as (..., N, M), or elementwise (..., N) when aligned.

    Every quotient that is not finite counts as 0, in the overlap and in each penalty.
    """
    if mode not in ("iou", "giou", "diou", "ciou", "iof"):
        raise ValueError(f"mode: expected iou, giou, diou, ciou or iof, got {mode!r}")
    a, b = boxes1.astype(np.float64), boxes2.astype(np.float64)
    if not aligned:
        a, b = a[..., :, None, :], b[..., None, :, :]
    with np.errstate(all="ignore"):
        sides_a = _sides(a[..., :2], a[..., 2:], pixel_offset)
        sides_b = _sides(b[..., :2], b[..., 2:], pixel_offset)
        common = _sides(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]), pixel_offset)
        intersection = _area(common)
        if mode == "iof":
            return _quotient(intersection, _area(sides_a))
        union = _area(sides_a) + _area(sides_b) - intersection
        iou = _quotient(intersection, union)
        if mode == "iou":
            return iou

        hull = _sides(np.minimum(a[..., :2], b[..., :2]), np.maximum(a[..., 2:], b[..., 2:]), pixel_offset)
        if mode == "giou":
            return np.asarray(iou - _quotient(_area(hull) - union, _area(hull)))

        # The centre of an inverted box may lie outside its hull, so only those need the bound of 1.
        distance = (a[..., :2] + a[..., 2:]) / 2 - (b[..., :2] + b[..., 2:]) / 2
        diou = iou - np.minimum(_quotient((distance**2).sum(axis=-1), (hull**2).sum(axis=-1)), 1.0)
        return np.asarray(diou if mode == "diou" else diou - _aspect_penalty(sides_a, sides_b, iou))


def generalized_box_iou(boxes1: Array, boxes2: Array) -> Float64:
    """box_iou in mode giou (Rezatofighi et al., 1902.09630)."""
    return box_iou(boxes1, boxes2, mode="giou")


def distance_box_iou(boxes1: Array, boxes2: Array) -> Float64:
    """box_iou in mode diou (Zheng et al., 1911.08287)."""
    return box_iou(boxes1, boxes2, mode="diou")


def complete_box_iou(boxes1: Array, boxes2: Array) -> Float64:
    """box_iou in mode ciou (Zheng et al., 1911.08287)."""
    return box_iou(boxes1, boxes2, mode="ciou")


def wh_iou(wh1: Array, wh2: Array) -> Float64:
    """IoU of sizes (..., N, 2) with (..., M, 2) as (..., N, M), as if all boxes had one centre."""
    a = np.maximum(wh1.astype(np.float64), 0.0)[..., :, None, :]
    b = np.maximum(wh2.astype(np.float64), 0.0)[..., None, :, :]
    with np.errstate(all="ignore"):
        intersection = _area(np.minimum(a, b))
        return _quotient(intersection, _area(a) + _area(b) - intersection)


def _sides(low: Float64, high: Float64, pixel_offset: int) -> Float64:
    """Width and height (..., 2), 0 where negative; NaN stays NaN."""
    with np.errstate(all="ignore"):
        return np.maximum((high - low) + pixel_offset, 0.0)


def _area(sides: Float64) -> Float64:
    """Width times height; 0 times infinity is NaN, which makes the quotients that hold it 0."""
    with np.errstate(all="ignore"):
        return np.asarray(sides[..., 0] * sides[..., 1])


def _quotient(numerator: Float64, denominator: Float64) -> Float64:
    """The quotient, or 0 where it is not finite."""
    value = np.asarray(numerator / denominator)
    return np.where(np.isfinite(value), value, 0.0)


def _aspect_penalty(sides_a: Float64, sides_b: Float64, iou: Float64) -> Float64:
    """CIoU's alpha * v; no penalty where alpha is 0, though v be NaN."""
    angle_a = np.arctan2(sides_a[..., 0], sides_a[..., 1])
    angle_b = np.arctan2(sides_b[..., 0], sides_b[..., 1])
    v = 4 / np.pi**2 * (angle_a - angle_b) ** 2
    alpha = _quotient(v, (1.0 - iou) + v)
    return np.where(alpha > 0, alpha * v, 0.0)
