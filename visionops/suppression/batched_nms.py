"""Greedy non-maximum suppression within each class."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops.suppression._call import check_candidates, classes_of
from visionops.suppression.nms import NMS, NMS_PADDED


@NMS.public
def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    iou_threshold: float,
    *,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
    padded: bool = False,
    backend: str | None = None,
) -> Any:  # not a union: every caller knows whether it asked for `padded`
    """Indices of the boxes that no better box of their class overlaps by more than a threshold.

    As `nms`, but only boxes of one class suppress each other. Classes are told apart by their ids, never by moving
    their boxes apart, so that the result is exact at any id, dtype and coordinate.

    Args:
        boxes: (N, 4) xyxy in pixels, floating or integer; with `padded` also (B, N, 4), B images.
        scores: (N,) or (B, N) floating, of any floating dtype.
        idxs: (N,) or (B, N) integers, any values: the class (or level, or any group) of each box.
        iou_threshold: In [0, 1]; boxes at exactly the threshold are kept.
        score_threshold: Boxes survive with a strictly greater score; None for no threshold.
        max_output: At most so many per image over all classes, the best ones; None for all.
        pixel_offset: 1 if x2 and y2 name the last pixel inside the box.
        padded: Return fixed sizes, which needs `max_output`.
        backend: "native", or None for the first that can run.

    Returns:
        (K,) int64 indices by descending score; or, with `padded`, (..., max_output) int64 indices filled with -1,
        and (...) int64 counts.

    Raises:
        ValueError: a shape, threshold or count does not fit; a batch of images without `padded`.
        TypeError: not tensors of numbers on one device, scores that are not floating, idxs that are not integers.
        NotImplementedError: no backend runs here; the message says why.

    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4]])
    >>> batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([7, 1, 7]), 0.5)
    tensor([0, 1])
    """
    _check.is_a("idxs", idxs, Tensor)
    check_candidates(boxes, scores, idxs, padded)
    _check.fraction("iou_threshold", iou_threshold)
    _check.suppression_options(score_threshold, max_output, pixel_offset, padded)
    op = NMS_PADDED if padded else NMS
    classes = classes_of(idxs)
    return op(boxes, scores, classes, iou_threshold, score_threshold, max_output, pixel_offset, backend=backend)
