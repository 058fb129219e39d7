"""Matrix NMS of boxes and of masks: every score decays at once, by its worst overlap with a better one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._backend import NATIVE, TRITON
from visionops._codes import MATRIX_NMS_KERNELS
from visionops._op import FLOATING, NUMBERS, Op
from visionops.suppression._call import (
    check_candidates,
    check_classes,
    classes_of,
    rescored,
    rescored_padded,
    vmap_images,
)


def _fake(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
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
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int,
    pixel_offset: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return rescored_padded(boxes, scores, max_output)


def _fake_masks(
    masks: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
) -> tuple[Tensor, Tensor]:
    return rescored(masks, scores)


def _fake_masks_padded(
    masks: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return rescored_padded(masks, scores, max_output)


BACKENDS = NATIVE, TRITON
MATRIX_NMS = Op("matrix_nms", fake=_fake, backends=BACKENDS)
MATRIX_NMS_PADDED = Op("matrix_nms_padded", fake=_fake_padded, vmap=vmap_images, backends=BACKENDS)
MASK_MATRIX_NMS = Op("mask_matrix_nms", fake=_fake_masks, backends=BACKENDS)
MASK_MATRIX_NMS_PADDED = Op("mask_matrix_nms_padded", fake=_fake_masks_padded, vmap=vmap_images, backends=BACKENDS)


@MATRIX_NMS.public
def matrix_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None = None,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    score_threshold: float | None = None,
    max_output: int | None = None,
    pixel_offset: int = 0,
    padded: bool = False,
    backend: str | None = None,
) -> Any:  # not a union: every caller knows whether it asked for `padded`
    """Indices and decayed scores of boxes, each decayed by its worst overlap with a better one of its class.

    "Better" is of higher score, ties by lower index. With c_i the largest IoU of box i with a better one, score j is
    multiplied by the least, over all better i, of exp(-sigma (IoU_ij^2 - c_i^2)) ("gaussian"), at most 1, or of
    (1 - IoU_ij) / (1 - c_i) ("linear"), without the i whose c_i is 1. No matrix is stored. A box with a NaN in its
    score or coordinates, or with a negative score, is dropped; infinite boxes overlap nothing.

    Args:
        boxes: (N, 4) xyxy in pixels, floating or integer; with `padded` also (B, N, 4), B images.
        scores: (N,) or (B, N) floating, of any floating dtype; narrow ones decay in float32.
        idxs: (N,) or (B, N) integers, any values: only boxes of one class lower each other; None if all are of one.
        kernel: "gaussian" or "linear".
        sigma: Above 0: the larger, the more "gaussian" lowers scores; "linear" does not use it.
        score_threshold: Boxes survive with a strictly greater decayed score; None for no threshold.
        max_output: At most so many per image over all classes, the best ones; None for all.
        pixel_offset: 1 if x2 and y2 name the last pixel inside the box.
        padded: Return fixed sizes, which needs `max_output`.
        backend: "native", "triton", or None for the first that can run.

    Returns:
        (K,) int64 indices by descending decayed score and (K,) those scores, in the dtype of `scores` and without a
        gradient; or, with `padded`, (..., max_output) int64 indices filled with -1, (..., max_output) scores filled
        with 0, and (...) int64 counts.

    Raises:
        ValueError: a shape, threshold or count does not fit; a batch of images without `padded`.
        TypeError: not tensors of numbers on one device, scores that are not floating, idxs that are not integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Wang et al., SOLOv2: Dynamic and Fast Instance Segmentation, NeurIPS 2020, 2003.10152.

    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])
    >>> matrix_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), kernel="linear")
    (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.2000]))
    """
    check_candidates(boxes, scores, idxs, padded)
    _check_options(kernel, sigma, score_threshold, max_output, pixel_offset, padded)
    op = MATRIX_NMS_PADDED if padded else MATRIX_NMS
    options = MATRIX_NMS_KERNELS[kernel], sigma, score_threshold, max_output, pixel_offset
    return op(boxes.detach(), scores.detach(), classes_of(idxs), *options, backend=backend)


@MASK_MATRIX_NMS.public
def mask_matrix_nms(
    masks: Tensor,
    scores: Tensor,
    idxs: Tensor | None = None,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    score_threshold: float | None = None,
    max_output: int | None = None,
    padded: bool = False,
    backend: str | None = None,
) -> Any:  # not a union: every caller knows whether it asked for `padded`
    """Indices and decayed scores of masks, each decayed by its worst overlap with a better one of its class.

    As `matrix_nms`, with the IoU of `mask_iou`: the masks are packed to a bit a pixel, and no matrix is stored.

    Args:
        masks: (N, H, W) bool, floating or integer, set where not zero; with `padded` also (B, N, H, W), B images.
        scores: (N,) or (B, N) floating, of any floating dtype; narrow ones decay in float32.
        idxs: (N,) or (B, N) integers, any values: only masks of one class lower each other; None if all are of one.
        kernel: "gaussian" or "linear".
        sigma: Above 0: the larger, the more "gaussian" lowers scores; "linear" does not use it.
        score_threshold: Masks survive with a strictly greater decayed score; None for no threshold.
        max_output: At most so many per image over all classes, the best ones; None for all.
        padded: Return fixed sizes, which needs `max_output`.
        backend: "native", "triton", or None for the first that can run.

    Returns:
        (K,) int64 indices by descending decayed score and (K,) those scores, in the dtype of `scores` and without a
        gradient; or, with `padded`, (..., max_output) int64 indices filled with -1, (..., max_output) scores filled
        with 0, and (...) int64 counts.

    Raises:
        ValueError: a shape, threshold or count does not fit; a batch of images without `padded`.
        TypeError: not tensors of bool or numbers on one device, scores that are not floating, idxs not integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: Wang et al., SOLOv2: Dynamic and Fast Instance Segmentation, NeurIPS 2020, 2003.10152.

    >>> masks = torch.tensor([[[1, 1, 1, 1]], [[1, 1, 1, 0]], [[0, 0, 0, 1]]])
    >>> mask_matrix_nms(masks, torch.tensor([0.9, 0.8, 0.7]), kernel="linear")
    (tensor([0, 2, 1]), tensor([0.9000, 0.5250, 0.2000]))
    """
    _check.is_a("masks", masks, Tensor)
    _check.is_a("scores", scores, Tensor)
    ndim = 4 if padded and masks.ndim == 4 else 3
    _check.ndim("masks", masks, ndim, "(N, H, W) or padded (B, N, H, W)")
    _check.dtype("masks", masks, NUMBERS | {torch.bool}, "bool, floating or integer")
    letters = "(N,)" if ndim == 3 else "(B, N)"
    _check.leading("scores", scores, masks, letters, dropped=2)
    _check.dtype("scores", scores, FLOATING, "floating")
    _check.same_device("scores", scores, "masks", masks)
    check_classes(idxs, scores, letters)
    _check_options(kernel, sigma, score_threshold, max_output, 0, padded)
    op = MASK_MATRIX_NMS_PADDED if padded else MASK_MATRIX_NMS
    options = MATRIX_NMS_KERNELS[kernel], sigma, score_threshold, max_output
    return op(masks.detach(), scores.detach(), classes_of(idxs), *options, backend=backend)


def _check_options(
    kernel: str, sigma: float, score_threshold: float | None, max_output: int | None, pixel_offset: int, padded: bool
) -> None:
    _check.one_of("kernel", kernel, MATRIX_NMS_KERNELS)
    _check.positive("sigma", sigma)
    _check.suppression_options(score_threshold, max_output, pixel_offset, padded)
