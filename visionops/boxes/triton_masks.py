"""Masks in Triton: packed to a bit a pixel, and the pixels that pairs of them share."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionops._backend import INTERPRETED
from visionops._triton_launch import launch

# The interpreter takes as long for a small block as for a large one.
_WORDS = 1024 if INTERPRETED else 64
_ROWS, _COLUMNS = (64, 64) if INTERPRETED else (16, 16)
WORD_BLOCK = 64 if INTERPRETED else 16


@triton.jit
def bits_set(words):
    """How many bits of each uint32 are set."""
    pairs = words - ((words >> 1) & 0x55555555)
    fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
    eights = (fours + (fours >> 4)) & 0x0F0F0F0F
    # Four sums of at most 8 add up in a byte.
    sixteens = eights + (eights >> 8)
    return ((sixteens + (sixteens >> 16)) & 0x3F).to(tl.int32)


@triton.jit
def common_pixels(a_bits, a_rows, a_valid, b_bits, b_rows, b_valid, words, WORD_BLOCK: tl.constexpr):
    """Pixels in both of every pair of rows (A,) of packed masks and rows (B,), as (A, B) int32."""
    count = tl.zeros((a_rows.shape[0], b_rows.shape[0]), tl.int32)
    first = 0
    while first < words:
        word = first + tl.arange(0, WORD_BLOCK)
        inside = (word < words)[None, :]
        at = word[None, :]
        a = tl.load(a_bits + a_rows[:, None] * words + at, mask=a_valid[:, None] & inside, other=0).to(tl.uint32)
        b = tl.load(b_bits + b_rows[:, None] * words + at, mask=b_valid[:, None] & inside, other=0).to(tl.uint32)
        count += tl.sum(bits_set(a[:, None, :] & b[None, :, :]), axis=2)
        first += WORD_BLOCK
    return count


@triton.jit
def _pack(masks, bits, pixels, words, WORDS: tl.constexpr):
    blocks = tl.cdiv(words, WORDS)
    mask, block = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks
    word = block * WORDS + tl.arange(0, WORDS)
    bit = tl.arange(0, 32)
    pixel = word[:, None] * 32 + bit[None, :]
    value = tl.load(masks + mask * pixels + pixel, mask=pixel < pixels, other=0)
    is_set = (value != 0).to(tl.int32) << bit[None, :]
    tl.store(bits + mask * words + word, tl.sum(is_set, axis=1), mask=word < words)


@triton.jit
def _mask_iou(a_bits, a_areas, b_bits, b_areas, iou, n, m, words, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
              WORD_BLOCK: tl.constexpr):  # fmt: skip
    blocks = tl.cdiv(m, COLUMNS)
    i = (tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    j = (tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    common = common_pixels(a_bits, i, i < n, b_bits, j, j < m, words, WORD_BLOCK)
    a = tl.load(a_areas + i, mask=i < n, other=0).to(tl.float64)
    b = tl.load(b_areas + j, mask=j < m, other=0).to(tl.float64)
    value = pixel_ratio(common, a[:, None], b[None, :])
    tl.store(iou + i[:, None] * m + j[None, :], value.to(tl.float32), mask=(i < n)[:, None] & (j < m)[None, :])


@triton.jit
def pixel_ratio(common, area_a, area_b):
    """IoU in float64, which counts of pixels fit into; 0 of masks that share none."""
    shared = common.to(tl.float64)
    return tl.where(common > 0, shared / tl.where(common > 0, area_a + area_b - shared, 1.0), 0.0)


def pack(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Bits (N, W) int32 and areas (N,) int64 of masks (N, H, W)."""
    n, pixels = masks.shape[0], masks.shape[1] * masks.shape[2]
    words = triton.cdiv(pixels, 32)
    bits = masks.new_empty((n, words), dtype=torch.int32)
    flat = (masks if masks.dtype == torch.bool else masks != 0).reshape(n, pixels).contiguous()
    if n * words > 0:
        launch(_pack, (n * triton.cdiv(words, _WORDS),), flat.view(torch.uint8), bits, pixels, words, WORDS=_WORDS)
    return bits, flat.sum(1)


def mask_iou(masks1: Tensor, masks2: Tensor) -> Tensor:
    """IoU (N, M) of masks (N, H, W) and (M, H, W)."""
    (a, a_areas), (b, b_areas) = pack(masks1), pack(masks2)
    n, m = len(a), len(b)
    iou = masks1.new_empty((n, m), dtype=torch.float32)
    if n * m > 0:
        grid = (triton.cdiv(n, _ROWS) * triton.cdiv(m, _COLUMNS),)
        launch(_mask_iou, grid, a, a_areas, b, b_areas, iou, n, m, a.shape[1],
               ROWS=_ROWS, COLUMNS=_COLUMNS, WORD_BLOCK=WORD_BLOCK)  # fmt: skip
    return iou
