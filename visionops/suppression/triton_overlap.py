"""Triton kernels of the suppressions without an order of decisions: for each box, its pairs with better ones.

Boxes stand in places: by image, whether they take part, class, descending score. A program has some places and goes
through those before them, of their class alone; nothing is stored for a pair.
"""

from __future__ import annotations

import triton
import triton.language as tl

from visionops._triton_math import area, divide, larger, ratio, side, smaller
from visionops.boxes.triton_masks import common_pixels, pixel_ratio


@triton.jit
def _load(boxes, places, valid):
    at = boxes + places * 4
    return (tl.load(at, mask=valid, other=0), tl.load(at + 1, mask=valid, other=0),
            tl.load(at + 2, mask=valid, other=0), tl.load(at + 3, mask=valid, other=0))  # fmt: skip


@triton.jit
def _box_iou(boxes, better, better_valid, mine, mine_valid, OFFSET: tl.constexpr):
    bx1, by1, bx2, by2 = _load(boxes, better, better_valid)
    mx1, my1, mx2, my2 = _load(boxes, mine, mine_valid)
    area_b, area_m = area(bx1, by1, bx2, by2, OFFSET), area(mx1, my1, mx2, my2, OFFSET)
    width = side(larger(bx1[:, None], mx1[None, :]), smaller(bx2[:, None], mx2[None, :]), OFFSET)
    height = side(larger(by1[:, None], my1[None, :]), smaller(by2[:, None], my2[None, :]), OFFSET)
    common = width * height
    return ratio(common, (area_b[:, None] + area_m[None, :]) - common)


@triton.jit
def _mask_iou(bits, areas, better, better_valid, mine, mine_valid, words, WORD_BLOCK: tl.constexpr):
    common = common_pixels(bits, better, better_valid, bits, mine, mine_valid, words, WORD_BLOCK)
    area_b = tl.load(areas + better, mask=better_valid, other=0).to(tl.float64)
    area_m = tl.load(areas + mine, mask=mine_valid, other=0).to(tl.float64)
    return pixel_ratio(common, area_b[:, None], area_m[None, :])


@triton.jit
def _pairs(things, areas, better, mine, count, starts, legal, words, OFFSET: tl.constexpr,
           MASKS: tl.constexpr, WORD_BLOCK: tl.constexpr):  # fmt: skip
    """IoU (I, J) of the places `better` with `mine`, 0 where a pair does not count."""
    better_valid, mine_valid = better < count, mine < count
    if MASKS:
        iou = _mask_iou(things, areas, better, better_valid, mine, mine_valid, words, WORD_BLOCK)
    else:
        iou = _box_iou(things, better, better_valid, mine, mine_valid, OFFSET)
    start = tl.load(starts + mine, mask=mine_valid, other=0)
    takes_part = tl.load(legal + mine, mask=mine_valid, other=0) != 0
    counts = (better[:, None] < mine[None, :]) & (better[:, None] >= start[None, :]) & takes_part[None, :]
    return tl.where(counts, iou, 0.0)


@triton.jit
def find_worst(things, areas, starts, legal, worst, count, words, OFFSET: tl.constexpr, MASKS: tl.constexpr,
               BETTER: tl.constexpr, MINE: tl.constexpr, WORD_BLOCK: tl.constexpr):  # fmt: skip
    """The largest IoU of each place with a better one of its segment, 0 if there is none."""
    mine = (tl.program_id(0) * MINE + tl.arange(0, MINE)).to(tl.int64)
    found = tl.zeros((MINE,), worst.dtype.element_ty)
    first = tl.min(tl.load(starts + mine, mask=mine < count, other=count), axis=0)
    last = tl.program_id(0) * MINE + MINE
    while first < last:
        better = first + tl.arange(0, BETTER).to(tl.int64)
        iou = _pairs(things, areas, better, mine, count, starts, legal, words, OFFSET, MASKS, WORD_BLOCK)
        found = larger(found, tl.max(iou, axis=0))
        first += BETTER
    tl.store(worst + mine, found, mask=mine < count)


@triton.jit
def find_decay(things, areas, starts, legal, worst, decay, count, words, GAUSSIAN: tl.constexpr, OFFSET: tl.constexpr,
               MASKS: tl.constexpr, BETTER: tl.constexpr, MINE: tl.constexpr, WORD_BLOCK: tl.constexpr):  # fmt: skip
    """What lowers the score of each place: the largest IoU^2 - c^2 (gaussian), or the least quotient."""
    mine = (tl.program_id(0) * MINE + tl.arange(0, MINE)).to(tl.int64)
    found = tl.full((MINE,), 0 if GAUSSIAN else 1, decay.dtype.element_ty)
    first = tl.min(tl.load(starts + mine, mask=mine < count, other=count), axis=0)
    last = tl.program_id(0) * MINE + MINE
    while first < last:
        better = first + tl.arange(0, BETTER).to(tl.int64)
        iou = _pairs(things, areas, better, mine, count, starts, legal, words, OFFSET, MASKS, WORD_BLOCK)
        own = iou.to(found.dtype)
        above = tl.load(worst + better, mask=better < count, other=0).to(found.dtype)[:, None]
        if GAUSSIAN:
            # What does not overlap has no more than 0.
            found = larger(found, tl.max((own - above) * (own + above), axis=0))
        else:
            part = divide(1 - own, tl.where(above < 1, 1 - above, 1.0) + 0 * own)
            found = smaller(found, tl.min(tl.where((above < 1) & (own > 0), part, 1.0), axis=0))
        first += BETTER
    tl.store(decay + mine, found, mask=mine < count)
