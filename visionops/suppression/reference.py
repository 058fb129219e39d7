"""What non-maximum suppression means, in NumPy: greedy, fast, soft and matrix NMS.

Each IoU is rounded in the dtype that the boxes compute in, for decisions hang on it; scores decay in float64.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.boxes.reference import mask_iou

Array = npt.NDArray[Any]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


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


def fast_nms(
    boxes: Array,
    scores: Array,
    idxs: Array | None = None,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> Int64:
    """Indices of the boxes (N, 4) that no box of higher score, kept or not, overlaps by more than iou_threshold.

    Boxes of other class ids in idxs (N,) do not count. Bolya et al., YOLACT, 1904.02689, section 4.4.
    """
    kept = [np.empty(0, np.int64)]
    for order in _by_class(_candidates(boxes, scores, score_threshold), scores, idxs):
        worst = _worst_overlaps(_overlaps(boxes[order], pixel_offset))
        kept.append(order[worst <= _compute_dtype(boxes.dtype)(iou_threshold)])
    return _by_score(np.sort(np.concatenate(kept)), scores)[:max_output]


def soft_nms(
    boxes: Array,
    scores: Array,
    idxs: Array | None = None,
    *,
    method: str = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float | None = 1e-3,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> tuple[Int64, Float64]:
    """Indices and decayed scores of the boxes (N, 4), best first: Bodla et al., 1704.04503, figure 2.

    Each box taken multiplies the scores left in its class by 1 - IoU where IoU > iou_threshold ("linear"), or by
    exp(-IoU^2 / sigma) ("gaussian"), until no score is above score_threshold. Negative scores take no part.
    """
    indices: list[np.int64] = []
    decayed: list[np.float64] = []
    for left, current in soft_nms_steps(
        boxes, scores, idxs, method=method, iou_threshold=iou_threshold, sigma=sigma, pixel_offset=pixel_offset
    ):
        best = left[np.argmax(current[left])]
        if not _above(current[best], score_threshold, scores) or len(indices) == max_output:
            break
        indices.append(best)
        decayed.append(current[best])
    return np.array(indices, np.int64), np.array(decayed, np.float64)


def soft_nms_steps(
    boxes: Array,
    scores: Array,
    idxs: Array | None,
    *,
    method: str,
    iou_threshold: float,
    sigma: float,
    pixel_offset: int,
) -> Iterator[tuple[Int64, Float64]]:
    """Before each choice of the best: the ascending indices left to choose from, and the scores (N,) by now."""
    left = _not_negative(_candidates(boxes, scores, None), scores)
    current = scores.astype(np.float64)
    dtype = _compute_dtype(boxes.dtype)
    columns = boxes.astype(dtype).T
    while len(left):
        yield left, current
        best = left[np.argmax(current[left])]
        left = left[left != best]
        mates = left if idxs is None else left[idxs[left] == idxs[best]]
        iou = _iou(columns[:, [best]], columns[:, mates], dtype(pixel_offset))
        wide = iou.astype(np.float64)
        factor = np.where(iou > dtype(iou_threshold), 1 - wide, 1.0)
        if method == "gaussian":
            factor = np.exp(-(wide**2) / sigma)
        with np.errstate(invalid="ignore"):
            current[mates] = np.where(factor > 0, current[mates] * factor, 0.0)


def matrix_nms(
    boxes: Array,
    scores: Array,
    idxs: Array | None = None,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> tuple[Int64, Float64]:
    """Indices and decayed scores of the boxes (N, 4), by descending decayed score: Wang et al., 2003.10152, 3.2.

    A box decays by the worst it suffers from a better one of its class, the less the worse that one is off itself.
    """
    candidates = _not_negative(_candidates(boxes, scores, score_threshold), scores)
    decayed = scores.astype(np.float64)
    for order in _by_class(candidates, scores, idxs):
        decayed[order] = _times(decayed[order], _matrix_decay(_overlaps(boxes[order], pixel_offset), kernel, sigma))
    return _rescored(candidates, decayed, scores, score_threshold, max_output)


def mask_matrix_nms(
    masks: Array,
    scores: Array,
    idxs: Array | None = None,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    score_threshold: float | None = None,
    max_output: int | None = None,
) -> tuple[Int64, Float64]:
    """As matrix_nms, of masks (N, H, W), whose pixels are those that are not zero."""
    legal = np.zeros((len(scores), 4))
    candidates = _not_negative(_candidates(legal, scores, score_threshold), scores)
    decayed = scores.astype(np.float64)
    for order in _by_class(candidates, scores, idxs):
        decayed[order] = _times(decayed[order], _matrix_decay(mask_iou(masks[order], masks[order]), kernel, sigma))
    return _rescored(candidates, decayed, scores, score_threshold, max_output)


def _matrix_decay(iou: Array, kernel: str, sigma: float) -> Float64:
    """The factor (N,) of each of N boxes of one class, best first, from their IoU (N, N)."""
    worst = _worst_overlaps(iou).astype(np.float64)
    wide = iou.astype(np.float64)
    factor = np.ones(len(worst))
    for j in range(1, len(worst)):
        above, own = worst[:j], wide[:j, j]
        if kernel == "gaussian":
            factor[j] = np.exp(-sigma * max(0.0, float(np.max(own**2 - above**2))))
        else:
            counts = above != 1
            factor[j] = np.min((1 - own[counts]) / (1 - above[counts]), initial=1.0)
    return factor


def _overlaps(boxes: Array, pixel_offset: int) -> Array:
    """IoU (N, N) of boxes (N, 4) in the dtype that they compute in."""
    dtype = _compute_dtype(boxes.dtype)
    columns = boxes.astype(dtype).T
    rows = [_iou(columns[:, [i]], columns, dtype(pixel_offset)) for i in range(len(boxes))]
    return np.array(rows, dtype=dtype).reshape(len(boxes), len(boxes))


def _worst_overlaps(iou: Array) -> Array:
    """Of each of N boxes, best first, its largest IoU with a better one; 0 of the first."""
    return np.asarray(np.triu(iou, 1).max(axis=0, initial=0))


def _by_class(candidates: Int64, scores: Array, idxs: Array | None) -> Iterator[Int64]:
    """The candidates of each class id by descending score."""
    if idxs is None:
        yield _by_score(candidates, scores)
        return
    for class_id in np.unique(idxs[candidates]):
        yield _by_score(candidates[idxs[candidates] == class_id], scores)


def _rescored(
    candidates: Int64, decayed: Float64, scores: Array, score_threshold: float | None, max_output: int | None
) -> tuple[Int64, Float64]:
    """The candidates whose decayed score is above the threshold, by descending decayed score, and those scores."""
    kept = candidates[[_above(score, score_threshold, scores) for score in decayed[candidates]]]
    order = _by_score(kept, decayed)[:max_output]
    return order, decayed[order]


def _times(scores: Float64, factor: Float64) -> Float64:
    """Scores that decay; nothing is left of an infinite one at factor 0."""
    with np.errstate(invalid="ignore"):
        return np.where(factor > 0, scores * factor, 0.0)


def _above(score: float, score_threshold: float | None, scores: Array) -> bool:
    """Whether a decayed score is above the threshold, which is rounded to the dtype that scores compute in."""
    if score_threshold is None:
        return True
    with np.errstate(over="ignore"):
        return bool(score > _score_dtype(scores)(score_threshold))


def _not_negative(candidates: Int64, scores: Array) -> Int64:
    """Those whose score is not negative: to decay such a score would raise it."""
    return candidates[scores[candidates] >= 0]


def _score_dtype(scores: Array) -> type[np.float32] | type[np.float64]:
    return np.float64 if scores.dtype == np.float64 else np.float32


def _candidates(boxes: Array, scores: Array, score_threshold: float | None) -> Int64:
    """Ascending indices of the boxes without NaN whose score is above the threshold."""
    legal = ~np.isnan(scores) & ~np.isnan(boxes).any(axis=-1)
    if score_threshold is not None:
        dtype = _score_dtype(scores)
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
    """IoU of a box (4, 1) with others (4, N), every operation rounded once, in this order: it decides who stays."""
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
