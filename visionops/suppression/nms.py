"""Greedy non-maximum suppression, and the operations that `batched_nms` shares with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionops import _check, _direct
from visionops._op import Op
from visionops.suppression._call import check_candidates, nms_fake, nms_padded_fake, vmap_images

NMS = Op("nms", fake=nms_fake)
NMS_PADDED = Op("nms_padded", fake=nms_padded_fake, vmap=vmap_images)


@NMS.public
def nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    *,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
    padded: bool = False,
    backend: str | None = None,
) -> Any:  # not a union: every caller knows whether it asked for `padded`
    """Indices of the boxes that no better box overlaps by more than a threshold: greedy non-maximum suppression.

    In order of descending score, ties by lower index, each box that is still there suppresses every later box with
    IoU > iou_threshold. The decision is fl(I / fl(fl(area1 + area2) - I)) > fl(iou_threshold) in the boxes' dtype
    (float32 for 16-bit types, as `box_iou` for integers), the same on every backend. A box with a NaN in its score
    or coordinates is dropped; infinite boxes overlap nothing.

    Args:
        boxes: (N, 4) xyxy in pixels, floating or integer; with `padded` also (B, N, 4), B images.
        scores: (N,) or (B, N) floating, of any floating dtype.
        iou_threshold: In [0, 1]; boxes at exactly the threshold are kept.
        score_threshold: Boxes survive with a strictly greater score; None for no threshold.
        max_output: At most so many per image, the best ones; None for all.
        pixel_offset: 1 if x2 and y2 name the last pixel inside the box.
        padded: Return fixed sizes, which needs `max_output`.
        backend: "native", or None for the first that can run.

    Returns:
        (K,) int64 indices by descending score; or, with `padded`, (..., max_output) int64 indices filled with -1,
        and (...) int64 counts.

    Raises:
        ValueError: a shape, threshold or count does not fit; a batch of images without `padded`.
        TypeError: not tensors of numbers on one device, or scores that are not floating.
        NotImplementedError: no backend runs here; the message says why.

    Source: Neubeck and Van Gool, Efficient Non-Maximum Suppression, ICPR 2006.

    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])
    >>> nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    tensor([0, 2])
    """
    _check.fraction("iou_threshold", iou_threshold)
    _check.suppression_options(score_threshold, max_output, pixel_offset, padded)
    is_default = score_threshold is None and max_output is None and backend is None
    if is_default and not torch.compiler.is_dynamo_compiling():
        direct = _direct.nms(boxes, scores, iou_threshold, pixel_offset)
        if direct is not None:
            return direct
    check_candidates(boxes, scores, None, padded)
    op = NMS_PADDED if padded else NMS
    return op(boxes, scores, None, iou_threshold, score_threshold, max_output, pixel_offset, backend=backend)
