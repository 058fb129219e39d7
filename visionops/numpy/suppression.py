"""Room `suppression` on NumPy arrays; what each operation means stands in visionops.suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionops import _check
from visionops._codes import MATRIX_NMS_KERNELS, SOFT_NMS_METHODS
from visionops.numpy import _kernels
from visionops.numpy._arrays import FLOATING, INTEGERS, array_of, boxes_of, masks_of

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
    _check.is_a("idxs", idxs, np.ndarray)
    return _suppress(boxes, scores, idxs, iou_threshold, score_threshold, max_output, pixel_offset)


def fast_nms(
    boxes: Array,
    scores: Array,
    idxs: Array | None = None,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
) -> NDArray[np.int64]:
    """As `nms`, but suppressed boxes suppress others too: as `visionops.fast_nms`.

    >>> boxes = np.array([[0.0, 0, 9, 9], [3, 0, 12, 9], [6, 0, 15, 9]])
    >>> fast_nms(boxes, np.array([0.9, 0.8, 0.7]), iou_threshold=0.4)
    array([0])
    """
    return _suppress(boxes, scores, idxs, iou_threshold, score_threshold, max_output, pixel_offset, fast=True)


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
) -> tuple[NDArray[np.int64], Array]:
    """Indices (K,) and decayed scores (K,) of what is left when each box taken lowers others: as `visionops.soft_nms`.

    >>> indices, scores = soft_nms(np.array([[0.0, 0, 4, 4], [0, 0, 4, 2]]), np.array([0.9, 0.8]))
    >>> indices, scores.round(3)
    (array([0, 1]), array([0.9, 0.4]))
    """
    boxes, scores, classes = _candidates(boxes, scores, idxs)
    _check.one_of("method", method, SOFT_NMS_METHODS)
    _check.fraction("iou_threshold", iou_threshold)
    _check.positive("sigma", sigma)
    _check.suppression_options(score_threshold, max_output, pixel_offset)
    options = score_threshold, max_output, pixel_offset
    return _kernels.soft_nms(boxes, scores, classes, SOFT_NMS_METHODS[method], iou_threshold, sigma, *options)


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
) -> tuple[NDArray[np.int64], Array]:
    """Indices (K,) and scores (K,), each decayed by its worst overlap with a better one: as `visionops.matrix_nms`.

    >>> indices, scores = matrix_nms(np.array([[0.0, 0, 4, 4], [0, 0, 4, 2]]), np.array([0.9, 0.8]), kernel="linear")
    >>> indices, scores.round(3)
    (array([0, 1]), array([0.9, 0.4]))
    """
    boxes, scores, classes = _candidates(boxes, scores, idxs)
    _check_matrix_options(kernel, sigma, score_threshold, max_output, pixel_offset)
    options = MATRIX_NMS_KERNELS[kernel], sigma, score_threshold, max_output
    return _kernels.matrix_nms(boxes, scores, classes, *options, pixel_offset)


def mask_matrix_nms(
    masks: Array,
    scores: Array,
    idxs: Array | None = None,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    score_threshold: float | None = None,
    max_output: int | None = None,
) -> tuple[NDArray[np.int64], Array]:
    """As `matrix_nms`, of masks (N, H, W): as `visionops.mask_matrix_nms`."""
    masks = masks_of("masks", masks, "(N, H, W)")
    scores = array_of("scores", scores)
    _check.leading("scores", scores, masks, "(N,)", dropped=2)
    _check.dtype("scores", scores, FLOATING, "floating")
    _check_matrix_options(kernel, sigma, score_threshold, max_output)
    options = MATRIX_NMS_KERNELS[kernel], sigma, score_threshold, max_output
    return _kernels.mask_matrix_nms(masks, scores, _classes(idxs, scores), *options)


def _check_matrix_options(
    kernel: str, sigma: float, score_threshold: float | None, max_output: int | None, pixel_offset: int = 0
) -> None:
    _check.one_of("kernel", kernel, MATRIX_NMS_KERNELS)
    _check.positive("sigma", sigma)
    _check.suppression_options(score_threshold, max_output, pixel_offset)


def _suppress(
    boxes: Array,
    scores: Array,
    idxs: Array | None,
    iou_threshold: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
    fast: bool = False,
) -> NDArray[np.int64]:
    boxes, scores, classes = _candidates(boxes, scores, idxs)
    _check.fraction("iou_threshold", iou_threshold)
    _check.suppression_options(score_threshold, max_output, pixel_offset)
    return _kernels.nms(boxes, scores, classes, iou_threshold, score_threshold, max_output, pixel_offset, fast)


def _candidates(boxes: Array, scores: Array, idxs: Array | None) -> tuple[Array, Array, NDArray[np.int64] | None]:
    boxes = boxes_of("boxes", boxes, "(N, 4)", ndim=2)
    scores = array_of("scores", scores)
    _check.leading("scores", scores, boxes, "(N,)")
    _check.dtype("scores", scores, FLOATING, "floating")
    return boxes, scores, _classes(idxs, scores)


def _classes(idxs: Array | None, scores: Array) -> NDArray[np.int64] | None:
    if idxs is None:
        return None
    idxs = array_of("idxs", idxs)
    _check.leading("idxs", idxs, scores, "(N,)", dropped=0)
    if idxs.size > 0:  # of an empty list NumPy makes float64
        _check.dtype("idxs", idxs, INTEGERS, "integer")
    return idxs.astype(np.int64, copy=False)
