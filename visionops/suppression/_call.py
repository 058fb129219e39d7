"""What the calls of all suppressions share: checks of their arguments, and the shapes of their results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._op import FLOATING, INTEGERS, NUMBERS, batch_first, indices_of_unknown_number


def check_candidates(boxes: Tensor, scores: Tensor, idxs: Tensor | None, padded: bool) -> None:
    """Raise unless the tensors are (N, 4), (N,) and (N,), or with `padded` also images of them, as said in `nms`."""
    _check.is_a("boxes", boxes, Tensor)
    _check.is_a("scores", scores, Tensor)
    ndim = boxes.ndim
    _check.columns("boxes", boxes, 4, "(N, 4) or padded (B, N, 4)", ndim=ndim if padded and ndim == 3 else 2)
    _check.dtype("boxes", boxes, NUMBERS, "floating or integer")
    letters = "(N,)" if ndim == 2 else "(B, N)"
    _check.leading("scores", scores, boxes, letters)
    _check.dtype("scores", scores, FLOATING, "floating")
    _check.same_device("scores", scores, "boxes", boxes)
    check_classes(idxs, scores, letters)


def check_classes(idxs: Tensor | None, scores: Tensor, letters: str) -> None:
    """Raise unless there are as many integers as scores, whose shape `letters` name, or None."""
    if idxs is not None:
        _check.is_a("idxs", idxs, Tensor)
        _check.leading("idxs", idxs, scores, letters, dropped=0)
        if idxs.numel() > 0:  # of an empty list torch makes float32
            _check.dtype("idxs", idxs, INTEGERS, "integer")
        _check.same_device("idxs", idxs, "scores", scores)


def classes_of(idxs: Tensor | None) -> Tensor | None:
    """Class ids as the operations take them."""
    return None if idxs is None else idxs.to(torch.int64)


def nms_fake(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    iou_threshold: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
) -> Tensor:
    """The shape rule of suppressions that drop boxes."""
    return indices_of_unknown_number(boxes)


def nms_padded_fake(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    iou_threshold: float,
    score_threshold: float | None,
    max_output: int,
    pixel_offset: int,
) -> tuple[Tensor, Tensor]:
    """The same with fixed sizes."""
    leading = scores.shape[:-1]
    return (
        boxes.new_empty((*leading, max_output), dtype=torch.int64),
        boxes.new_empty(leading, dtype=torch.int64),
    )


def rescored(things: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The results of a suppression that lowers scores: indices, and scores beside them."""
    indices = indices_of_unknown_number(things)
    return indices, scores.new_empty(indices.shape)


def rescored_padded(things: Tensor, scores: Tensor, max_output: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same with fixed sizes, and the counts."""
    leading = scores.shape[:-1]
    rows = (*leading, max_output)
    counts = things.new_empty(leading, dtype=torch.int64)
    return things.new_empty(rows, dtype=torch.int64), scores.new_empty(rows), counts


def vmap_images(
    raw: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The batching rule of a padded suppression: a vmap over an image batch is one larger image batch."""
    things, scores, idxs, *rest = batch_first(info, in_dims, args)
    sizes = scores.shape[:-1]
    images = [None if t is None else t.flatten(0, len(sizes) - 1) for t in (things, scores, idxs)]
    *rows, counts = raw(*images, *rest)
    return (*(row.reshape(*sizes, row.shape[-1]) for row in rows), counts.reshape(sizes)), (0,) * (len(rows) + 1)
