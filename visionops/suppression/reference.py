"""What non-maximum suppression means, in NumPy: greedy loops whose every decision follows SPEC section 2."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Int64 = npt.NDArray[np.int64]


def nms(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    *,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> Int64:
    """Indices of the boxes (N, 4) that no kept box of higher score overlaps by more than iou_threshold.

    They come by descending score, ties by lower index. Pass bfloat16 boxes and scores as float32 arrays.
    """
    order = _by_score(_candidates(boxes, scores, score_threshold), scores)
    return _greedy(boxes, order, iou_threshold, pixel_offset)[:max_output]


def batched_nms(
    boxes: Array,
    scores: Array,
    idxs: Array,
    iou_threshold: float,
    *,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> Int64:
    """Indices that nms keeps within each class id of idxs (N,), merged by score; max_output counts them all."""
    candidates = _candidates(boxes, scores, score_threshold)
    kept = [np.empty(0, np.int64)]
    for class_id in np.unique(idxs[candidates]):
        order = _by_score(candidates[idxs[candidates] == class_id], scores)
        kept.append(_greedy(boxes, order, iou_threshold, pixel_offset))
    return _by_score(np.sort(np.concatenate(kept)), scores)[:max_output]


def _candidates(boxes: Array, scores: Array, score_threshold: float | None) -> Int64:
    """Ascending indices of the boxes without NaN whose score is above the threshold."""
    legal = ~np.isnan(scores) & ~np.isnan(boxes).any(axis=-1)
    if score_threshold is not None:
        dtype = np.float64 if scores.dtype == np.float64 else np.float32
        with np.errstate(over="ignore"):
            legal &= scores.astype(dtype) > dtype(score_threshold)
    return np.flatnonzero(legal).astype(np.int64)


def _by_score(indices: Int64, scores: Array) -> Int64:
    """Ascending indices rearranged by descending score, ties left in place; -0.0 ties with +0.0."""
    return indices[np.argsort(-scores[indices], kind="stable")]


def _greedy(boxes: Array, order: Int64, iou_threshold: float, pixel_offset: int) -> Int64:
    """Takes the first box left, strikes those it suppresses, and so on; order is best first."""
    dtype = _compute_dtype(boxes.dtype)
    threshold = dtype(iou_threshold)
    rest = np.ascontiguousarray(boxes[order].astype(dtype).T)
    kept = []
    while len(order):
        kept.append(order[0])
        suppressed = _iou(rest[:, :1], rest[:, 1:], dtype(pixel_offset)) > threshold
        order, rest = order[1:], rest[:, 1:]
        if suppressed.any():
            order, rest = order[~suppressed], rest[:, ~suppressed]
    return np.array(kept, dtype=np.int64)


def _compute_dtype(dtype: np.dtype[Any]) -> type[np.float32] | type[np.float64]:
    """float32 for boxes of at most 16 bits and for float32, float64 for the others."""
    narrow = dtype == np.float32 or dtype.itemsize <= 2
    return np.float32 if narrow else np.float64


def _iou(box: Array, others: Array, offset: np.floating[Any]) -> Array:
    """IoU of a box (4, 1) with others (4, N), every operation rounded once, in the order that SPEC section 2 gives."""
    with np.errstate(all="ignore"):
        area = _area(box[:2], box[2:], offset)
        areas = _area(others[:2], others[2:], offset)
        intersection = _area(np.maximum(box[:2], others[:2]), np.minimum(box[2:], others[2:]), offset)
        iou = intersection / ((area + areas) - intersection)
    iou[np.isnan(iou) | np.isinf(area) | np.isinf(areas)] = 0
    return np.asarray(iou)


def _area(low: Array, high: Array, offset: np.floating[Any]) -> Array:
    """Width times height of corners (2, N), sides 0 where negative; no operation leaves the dtype of the boxes."""
    width, height = np.maximum((high - low) + offset, low.dtype.type(0))
    return np.asarray(width * height)
