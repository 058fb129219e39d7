"""Soft non-maximum suppression: scores of overlapping boxes decay instead of vanishing."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops._codes import SOFT_NMS_METHODS
from visionops._op import Op
from visionops.suppression._call import check_candidates, classes_of, rescored, rescored_padded, vmap_images


def _fake(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    method: int,
    iou_threshold: float,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
) -> tuple[Tensor, Tensor]:
    return rescored(boxes, scores)


def _fake_padded(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    method: int,
    iou_threshold: float,
    sigma: float,
    score_threshold: float | None,
    max_output: int,
    pixel_offset: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return rescored_padded(boxes, scores, max_output)


SOFT_NMS = Op("soft_nms", fake=_fake)
SOFT_NMS_PADDED = Op("soft_nms_padded", fake=_fake_padded, vmap=vmap_images)


@SOFT_NMS.public
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None = None,
    *,
    method: str = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float | None = 1e-3,
    max_output: int | None = None,
    pixel_offset: int = 0,
    padded: bool = False,
    backend: str | None = None,
) -> Any:  # not a union: every caller knows whether it asked for `padded`
    """Indices and decayed scores of the boxes that are left when each one taken lowers those it overlaps.

    The best box is taken, ties by lower index; the scores left in its class are multiplied by 1 - IoU where
    IoU > iou_threshold ("linear"), or by exp(-IoU^2 / sigma) ("gaussian"); and so on until no score is above
    score_threshold. A box with a NaN in its score or coordinates, or with a negative score, is dropped; infinite
    boxes overlap nothing.

    Args:
        boxes: (N, 4) xyxy in pixels, floating or integer; with `padded` also (B, N, 4), B images.
        scores: (N,) or (B, N) floating, of any floating dtype; narrow ones decay in float32.
        idxs: (N,) or (B, N) integers, any values: only boxes of one class lower each other; None if all are of one.
        method: "linear" or "gaussian".
        iou_threshold: In [0, 1]: "linear" leaves scores at exactly the threshold; "gaussian" does not use it.
        sigma: Above 0: the larger, the less "gaussian" lowers scores; "linear" does not use it.
        score_threshold: Boxes survive with a strictly greater decayed score; None for no threshold.
        max_output: At most so many per image over all classes, the best ones; None for all.
        pixel_offset: 1 if x2 and y2 name the last pixel inside the box.
        padded: Return fixed sizes, which needs `max_output`.
        backend: "native", or None for the first that can run.

    Returns:
        (K,) int64 indices by descending decayed score and (K,) those scores, in the dtype of `scores` and without a
        gradient; or, with `padded`, (..., max_output) int64 indices filled with -1, (..., max_output) scores filled
        with 0, and (...) int64 counts.

    Raises:
        ValueError: a shape, threshold or count does not fit; a batch of images without `padded`.
        TypeError: not tensors of numbers on one device, scores that are not floating, idxs that are not integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Bodla et al., Soft-NMS: Improving Object Detection With One Line of Code, ICCV 2017, 1704.04503.

    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])
    >>> soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]))
    (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.2000]))
    """
    check_candidates(boxes, scores, idxs, padded)
    _check.one_of("method", method, SOFT_NMS_METHODS)
    _check.fraction("iou_threshold", iou_threshold)
    _check.positive("sigma", sigma)
    _check.suppression_options(score_threshold, max_output, pixel_offset, padded)
    op = SOFT_NMS_PADDED if padded else SOFT_NMS
    return op(
        boxes.detach(),
        scores.detach(),
        classes_of(idxs),
        SOFT_NMS_METHODS[method],
        iou_threshold,
        sigma,
        score_threshold,
        max_output,
        pixel_offset,
        backend=backend,
    )
