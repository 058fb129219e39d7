"""Fast NMS: suppression without an order of decisions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops._backend import NATIVE, TRITON
from visionops._op import Op
from visionops.suppression._call import check_candidates, classes_of, nms_fake, nms_padded_fake, vmap_images

FAST_NMS = Op("fast_nms", fake=nms_fake, backends=(NATIVE, TRITON))
FAST_NMS_PADDED = Op("fast_nms_padded", fake=nms_padded_fake, vmap=vmap_images, backends=(NATIVE, TRITON))


@FAST_NMS.public
def fast_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None = None,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
    padded: bool = False,
    backend: str | None = None,
) -> Any:  # not a union: every caller knows whether it asked for `padded`
    """Indices of the boxes that no better box of their class, kept or not, overlaps by more than a threshold.

    Box j stays if max over all i of higher score, ties by lower index, of IoU(i, j) <= iou_threshold. Boxes that are
    suppressed suppress others too, so that it keeps no more boxes than `nms` does; the decision is that of `nms`.

    Args:
        boxes: (N, 4) xyxy in pixels, floating or integer; with `padded` also (B, N, 4), B images.
        scores: (N,) or (B, N) floating, of any floating dtype.
        idxs: (N,) or (B, N) integers, any values: the class of each box; None if all are of one.
        iou_threshold: In [0, 1]; boxes at exactly the threshold are kept.
        score_threshold: Boxes survive with a strictly greater score; None for no threshold.
        max_output: At most so many per image over all classes, the best ones; None for all.
        pixel_offset: 1 if x2 and y2 name the last pixel inside the box.
        padded: Return fixed sizes, which needs `max_output`.
        backend: "native", "triton", or None for the first that can run.

    Returns:
        (K,) int64 indices by descending score; or, with `padded`, (..., max_output) int64 indices filled with -1,
        and (...) int64 counts.

    Raises:
        ValueError: a shape, threshold or count does not fit; a batch of images without `padded`.
        TypeError: not tensors of numbers on one device, scores that are not floating, idxs that are not integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Bolya et al., YOLACT: Real-time Instance Segmentation, ICCV 2019, 1904.02689.

    The third box overlaps the second by more than 1/2, the first by less: `nms` keeps it, `fast_nms` does not.

    >>> boxes = torch.tensor([[0.0, 0, 9, 9], [3, 0, 12, 9], [6, 0, 15, 9]])
    >>> fast_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.4)
    tensor([0])
    """
    check_candidates(boxes, scores, idxs, padded)
    _check.fraction("iou_threshold", iou_threshold)
    _check.suppression_options(score_threshold, max_output, pixel_offset, padded)
    op = FAST_NMS_PADDED if padded else FAST_NMS
    classes = classes_of(idxs)
    return op(boxes, scores, classes, iou_threshold, score_threshold, max_output, pixel_offset, backend=backend)
