"""Room `suppression` on NumPy arrays; what each operation means stands in visionops.suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionops import _check
from visionops.numpy import _kernels
from visionops.numpy._arrays import FLOATING, INTEGERS, array_of, boxes_of

Array = NDArray[Any]


def nms(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    *,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> NDArray[np.int64]:
    """Indices (K,) of the (N, 4) boxes that no better box overlaps by more than a threshold, as `visionops.nms`.

    >>> nms(np.array([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]]), np.array([0.9, 0.8, 0.7]), 0.5)
    array([0, 2])
    """
    return _suppress(boxes, scores, None, iou_threshold, score_threshold, max_output, pixel_offset)


def batched_nms(
    boxes: Array,
    scores: Array,
    idxs: Array,
    iou_threshold: float,
    *,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> NDArray[np.int64]:
    """As `nms`, but only boxes of one class, (N,) integers, suppress each other: as `visionops.batched_nms`.

    >>> boxes = np.array([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4]])
    >>> batched_nms(boxes, np.array([0.9, 0.8, 0.7]), np.array([7, 1, 7]), 0.5)
    array([0, 1])
    """
    _check.is_a("boxes", boxes, np.ndarray)
    idxs = array_of("idxs", idxs)
    _check.leading("idxs", idxs, "boxes", boxes, "(N,)")
    _check.dtype("idxs", idxs, INTEGERS, "integer")
    classes = idxs.astype(np.int64, copy=False)
    return _suppress(boxes, scores, classes, iou_threshold, score_threshold, max_output, pixel_offset)


def _suppress(
    boxes: Array,
    scores: Array,
    classes: NDArray[np.int64] | None,
    iou_threshold: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
) -> NDArray[np.int64]:
    boxes = boxes_of("boxes", boxes, "(N, 4)", ndim=2)
    scores = array_of("scores", scores)
    _check.leading("scores", scores, "boxes", boxes, "(N,)")
    _check.dtype("scores", scores, FLOATING, "floating")
    _check.suppression_options(iou_threshold, score_threshold, max_output, pixel_offset)
    return _kernels.nms(boxes, scores, classes, iou_threshold, score_threshold, max_output, pixel_offset)
