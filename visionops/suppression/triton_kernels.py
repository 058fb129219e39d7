"""Fast and matrix NMS in Triton: torch sorts and groups, kernels go through the pairs, torch sorts what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from visionops._backend import INTERPRETED
from visionops._triton_launch import launch
from visionops.boxes.triton_masks import WORD_BLOCK, pack
from visionops.suppression.triton_overlap import find_decay, find_worst

_WIDE = (torch.float64, torch.int32, torch.int64)

# The interpreter takes as long for a small block as for a large one.
_BETTER, _MINE = (128, 128) if INTERPRETED else (64, 32)
_MASK_BLOCK = 64 if INTERPRETED else 16


@dataclass
class _Places:
    """Boxes or masks of images (B, N): where each stands, by whether it takes part, class and descending score.

    Attributes:
        order: (B, N) place to index.
        legal: (B, N) by place, whether it takes part.
        starts: (B, N) by place, counted over all images: where its segment begins.
    """

    order: Tensor
    legal: Tensor
    starts: Tensor


def _place(legal: Tensor, scores: Tensor, idxs: Tensor | None) -> _Places:
    order = _by_score(legal, scores)
    changes = torch.zeros_like(legal)
    if idxs is not None:
        order = order.gather(1, idxs.gather(1, order).argsort(dim=1, stable=True))
        order = order.gather(1, (~legal).gather(1, order).to(torch.uint8).argsort(dim=1, stable=True))
        classes = idxs.gather(1, order)
        changes[:, 1:] = classes[:, 1:] != classes[:, :-1]
    images, n = legal.shape
    place = torch.arange(images * n, device=legal.device).view(images, n)
    changes[:, :1] = True
    starts = torch.where(changes, place, 0).cummax(dim=1).values
    return _Places(order, legal.gather(1, order), starts)


def _by_score(kept: Tensor, scores: Tensor) -> Tensor:
    """Indices (B, N) of those kept by descending score, ties by lower index, then the others."""
    order = torch.where(kept, scores, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return order.gather(1, (~kept).gather(1, order).to(torch.uint8).argsort(dim=1, stable=True))


def _legal(scores: Tensor, score_threshold: float | None, boxes: Tensor | None, rescored: bool) -> Tensor:
    """Which take part, (B, N)."""
    legal = scores == scores
    if score_threshold is not None:
        legal = legal & (scores > _as(scores, score_threshold))
    if rescored:
        legal = legal & (scores >= 0)
    return legal if boxes is None else legal & (boxes == boxes).all(dim=2)


def _as(scores: Tensor, value: float) -> Tensor:
    """A number in the dtype of scores, on their device, without a wait for it."""
    return torch.full((), value, dtype=torch.float64, device=scores.device).to(scores.dtype)  # beyond it, infinite


def _compute(scores: Tensor) -> Tensor:
    return scores.to(torch.float64 if scores.dtype == torch.float64 else torch.float32)


def _boxes_at(places: _Places, boxes: Tensor) -> Tensor:
    """Boxes (B * N, 4) by place, in the type that they compute in."""
    wide = boxes.to(torch.float64 if boxes.dtype in _WIDE else torch.float32)
    return wide.gather(1, places.order[..., None].expand(*places.order.shape, 4)).reshape(-1, 4).contiguous()


def _worst(places: _Places, things: Tensor, areas: Tensor, offset: int, masks: bool) -> Tensor:
    """The largest IoU of each place with a better one, (B * N,)."""
    worst = things.new_empty(places.order.numel(), dtype=torch.float64 if masks else things.dtype)
    _run(find_worst, places, things, areas, worst, offset=offset, masks=masks)
    return worst


def _run(
    kernel: Any,
    places: _Places,
    things: Tensor,
    areas: Tensor,
    *results: Tensor,
    offset: int,
    masks: bool,
    **constants: Any,
) -> None:
    count = places.order.numel()
    if count > 0:
        mine, better = (_MASK_BLOCK, _MASK_BLOCK) if masks else (_MINE, _BETTER)
        launch(kernel, (triton.cdiv(count, mine),), things, areas, places.starts, places.legal.to(torch.uint8),
               *results, count, things.shape[1], OFFSET=offset, MASKS=masks, BETTER=better, MINE=mine,
               WORD_BLOCK=WORD_BLOCK, **constants)  # fmt: skip


def _kept_of_fast(
    boxes: Tensor, scores: Tensor, idxs: Tensor | None, iou_threshold: float, score_threshold: float | None, offset: int
) -> tuple[Tensor, Tensor]:
    """Which stay of images (B, N), and the scores that order them."""
    scores = _compute(scores)
    places = _place(_legal(scores, score_threshold, boxes, False), scores, idxs)
    things = _boxes_at(places, boxes)
    worst = _worst(places, things, things, offset, False).view(places.order.shape)
    stays = places.legal & (worst <= torch.full((), iou_threshold, dtype=worst.dtype, device=worst.device))
    return torch.zeros_like(stays).scatter(1, places.order, stays), scores


def fast_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    iou_threshold: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
) -> Tensor:
    """Indices (K,) that stay."""
    kept, scores = _kept_of_fast(boxes[None], scores[None], _rows(idxs), iou_threshold, score_threshold, pixel_offset)
    return _by_score(kept, scores)[0, : int(kept.sum())][:max_output].clone()


def fast_nms_padded(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    iou_threshold: float,
    score_threshold: float | None,
    max_output: int,
    pixel_offset: int,
) -> tuple[Tensor, Tensor]:
    """The same with fixed sizes."""
    batched = scores.ndim == 2
    if not batched:
        boxes, scores, idxs = boxes[None], scores[None], _rows(idxs)
    kept, scores = _kept_of_fast(boxes, scores, idxs, iou_threshold, score_threshold, pixel_offset)
    indices, counts = _fill(kept, _by_score(kept, scores), max_output)
    return (indices, counts) if batched else (indices[0], counts[0])


def _rows(idxs: Tensor | None) -> Tensor | None:
    return None if idxs is None else idxs[None]


def _fill(kept: Tensor, order: Tensor, max_output: int) -> tuple[Tensor, Tensor]:
    """Indices (B, max_output) filled with -1, and how many count."""
    images, n = kept.shape
    counts = kept.sum(1).clamp_max(max_output)
    indices = order.new_full((images, max_output), -1)
    some = min(n, max_output)
    inside = torch.arange(some, device=kept.device) < counts[:, None]
    indices[:, :some] = torch.where(inside, order[:, :some], -1)
    return indices, counts


def _matrix_decayed(
    things: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    offset: int,
    masks: bool,
) -> tuple[Tensor, Tensor]:
    """Which are left of images (B, N), and their decayed scores."""
    scores = _compute(scores)
    places = _place(_legal(scores, score_threshold, None if masks else things, True), scores, idxs)
    if masks:
        images, n = scores.shape
        flat = torch.arange(images, device=scores.device)[:, None] * n + places.order
        bits, every = pack(things.flatten(0, 1))
        packed, areas = bits[flat.flatten()], every[flat.flatten()]
    else:
        packed = areas = _boxes_at(places, things)
    worst = _worst(places, packed, areas, offset, masks)
    decay, gaussian = scores.new_empty(scores.shape), kernel == 0
    _run(find_decay, places, packed, areas, worst, decay, offset=offset, masks=masks, GAUSSIAN=gaussian)
    # An infinite sigma would make a NaN of no overlap.
    factor = torch.exp(-min(sigma, torch.finfo(scores.dtype).max) * decay) if gaussian else decay
    at_place = scores.gather(1, places.order)
    # Nothing is left of an infinite score at factor 0.
    lowered = torch.where(factor > 0, at_place * factor, 0)
    left = places.legal if score_threshold is None else places.legal & (lowered > _as(scores, score_threshold))
    back = torch.zeros_like(lowered).scatter(1, places.order, lowered)
    return torch.zeros_like(left).scatter(1, places.order, left), back


def _matrix(
    things: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
    offset: int,
    masks: bool,
) -> tuple[Tensor, Tensor]:
    left, decayed = _matrix_decayed(
        things[None], scores[None], _rows(idxs), kernel, sigma, score_threshold, offset, masks
    )
    order = _by_score(left, decayed)[0, : int(left.sum())][:max_output].clone()
    return order, decayed[0][order].to(scores.dtype)


def _matrix_padded(
    things: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int,
    offset: int,
    masks: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batched = scores.ndim == 2
    if not batched:
        things, scores, idxs = things[None], scores[None], _rows(idxs)
    left, decayed = _matrix_decayed(things, scores, idxs, kernel, sigma, score_threshold, offset, masks)
    indices, counts = _fill(left, _by_score(left, decayed), max_output)
    rows = torch.zeros_like(indices, dtype=scores.dtype)
    some = min(left.shape[1], max_output)
    kept = indices[:, :some]
    rows[:, :some] = torch.where(kept >= 0, decayed.gather(1, kept.clamp_min(0)), 0).to(scores.dtype)
    return (indices, rows, counts) if batched else (indices[0], rows[0], counts[0])


def matrix_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
) -> tuple[Tensor, Tensor]:
    """Indices (K,) and decayed scores (K,)."""
    return _matrix(boxes, scores, idxs, kernel, sigma, score_threshold, max_output, pixel_offset, False)


def matrix_nms_padded(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int,
    pixel_offset: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with fixed sizes."""
    return _matrix_padded(boxes, scores, idxs, kernel, sigma, score_threshold, max_output, pixel_offset, False)


def mask_matrix_nms(
    masks: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
) -> tuple[Tensor, Tensor]:
    """Indices (K,) and decayed scores (K,)."""
    return _matrix(masks, scores, idxs, kernel, sigma, score_threshold, max_output, 0, True)


def mask_matrix_nms_padded(
    masks: Tensor,
    scores: Tensor,
    idxs: Tensor | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with fixed sizes."""
    return _matrix_padded(masks, scores, idxs, kernel, sigma, score_threshold, max_output, 0, True)
