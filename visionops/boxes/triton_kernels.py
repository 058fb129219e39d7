"""IoU matrices in Triton, forward and backward: tiles of pairs, nothing stored but the result.

The forward pass writes 4 bytes a pair and is bound by that. In the backward pass a program sums the gradients of a few
boxes over a run of their partners, and a second kernel adds the runs: in a fixed order, without atomics.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionops._backend import INTERPRETED
from visionops._op import result_dtype
from visionops._triton_launch import launch
from visionops.boxes.triton_masks import mask_iou as mask_iou
from visionops.boxes.triton_pair import coordinate_gradient, load_boxes, measure, pair_gradient, pair_value

_WIDE = (torch.float64, torch.int32, torch.int64)

# The interpreter takes as long for a small block as for a large one.
_ROWS, _COLUMNS = (128, 256) if INTERPRETED else (16, 128)
_PAIRS = 4096 if INTERPRETED else 512
_MINE, _THEIRS = (64, 128) if INTERPRETED else (16, 64)
_RUN = 4096  # partners that one program sums over
_WARPS = 8  # of a tile: with fewer, a thread's pairs fill its registers and few programs share a processor
_FIELDS = tl.constexpr(6)  # of a gradient: x1, y1, x2, y2, area, angle


@triton.jit
def matrix_kernel(
    boxes1, boxes2, out,
    n, m,
    MODE: tl.constexpr, OFFSET: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of out (batch, n, m) of boxes1 (batch, n, 4) and boxes2 (batch, m, 4); programs: batch, rows, columns."""
    across, down = tl.cdiv(m, COLUMNS), tl.cdiv(n, ROWS)
    program = tl.program_id(0)
    batch = (program // (across * down)).to(tl.int64)
    row = program // across % down * ROWS + tl.arange(0, ROWS)
    column = program % across * COLUMNS + tl.arange(0, COLUMNS)

    ax1, ay1, ax2, ay2 = load_boxes(boxes1, batch * n + row, row < n, COMPUTE)
    bx1, by1, bx2, by2 = load_boxes(boxes2, batch * m + column, column < m, COMPUTE)
    area_a, angle_a = measure(ax1, ay1, ax2, ay2, OFFSET, MODE)
    area_b, angle_b = measure(bx1, by1, bx2, by2, OFFSET, MODE)
    value = pair_value(
        ax1[:, None], ay1[:, None], ax2[:, None], ay2[:, None], area_a[:, None], angle_a[:, None],
        bx1[None, :], by1[None, :], bx2[None, :], by2[None, :], area_b[None, :], angle_b[None, :],
        OFFSET, MODE,
    )  # fmt: skip
    place = out + ((batch * n + row)[:, None] * m + column[None, :])
    tl.store(place, value.to(out.dtype.element_ty), (row < n)[:, None] & (column < m)[None, :])


@triton.jit
def aligned_kernel(
    boxes1, boxes2, out,
    count,
    MODE: tl.constexpr, OFFSET: tl.constexpr, COMPUTE: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Values (count,) of boxes1 and boxes2 (count, 4), pair by pair."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    mask = pair < count
    ax1, ay1, ax2, ay2 = load_boxes(boxes1, pair, mask, COMPUTE)
    bx1, by1, bx2, by2 = load_boxes(boxes2, pair, mask, COMPUTE)
    area_a, angle_a = measure(ax1, ay1, ax2, ay2, OFFSET, MODE)
    area_b, angle_b = measure(bx1, by1, bx2, by2, OFFSET, MODE)
    value = pair_value(
        ax1, ay1, ax2, ay2, area_a, angle_a, bx1, by1, bx2, by2, area_b, angle_b, OFFSET, MODE
    )  # fmt: skip
    tl.store(out + pair, value.to(out.dtype.element_ty), mask)


@triton.jit
def backward_kernel(
    mine, theirs, grad, sums,
    count, others,
    grad_mine_stride, grad_theirs_stride, grad_batch_stride,
    MODE: tl.constexpr, MINE_FIRST: tl.constexpr, OFFSET: tl.constexpr, COMPUTE: tl.constexpr,
    MINE: tl.constexpr, THEIRS: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Sums of the gradients of mine (batch, count, 4) over a run of theirs (batch, others, 4).

    grad holds one value a pair, at the strides given; sums is (batch, runs, 6, count) float64. Programs: batch, blocks
    of mine, runs.
    """
    blocks, runs = tl.cdiv(count, MINE), tl.cdiv(others, RUN)
    program = tl.program_id(0)
    batch = (program // (blocks * runs)).to(tl.int64)
    run = program % runs
    box = program // runs % blocks * MINE + tl.arange(0, MINE)
    mx1, my1, mx2, my2 = load_boxes(mine, batch * count + box, box < count, COMPUTE)
    area_m, angle_m = measure(mx1, my1, mx2, my2, OFFSET, MODE)

    nothing = tl.zeros([MINE], tl.float64)
    sum_x1, sum_y1, sum_x2, sum_y2, sum_area, sum_angle = nothing, nothing, nothing, nothing, nothing, nothing
    first, end = run * RUN, tl.minimum(run * RUN + RUN, others)
    while first < end:
        partner = first + tl.arange(0, THEIRS)
        tx1, ty1, tx2, ty2 = load_boxes(theirs, batch * others + partner, partner < others, COMPUTE)
        area_t, angle_t = measure(tx1, ty1, tx2, ty2, OFFSET, MODE)
        pair = box.to(tl.int64)[:, None] * grad_mine_stride + partner.to(tl.int64)[None, :] * grad_theirs_stride
        mask = (box < count)[:, None] & (partner < others)[None, :]
        weight = tl.load(grad + batch * grad_batch_stride + pair, mask, 0).to(COMPUTE)
        by_x1, by_y1, by_x2, by_y2, by_area, by_angle = pair_gradient(
            mx1[:, None], my1[:, None], mx2[:, None], my2[:, None], area_m[:, None], angle_m[:, None],
            tx1[None, :], ty1[None, :], tx2[None, :], ty2[None, :], area_t[None, :], angle_t[None, :],
            OFFSET, MODE, MINE_FIRST,
        )  # fmt: skip
        sum_x1 += tl.sum(weight * by_x1, 1).to(tl.float64)
        sum_y1 += tl.sum(weight * by_y1, 1).to(tl.float64)
        sum_x2 += tl.sum(weight * by_x2, 1).to(tl.float64)
        sum_y2 += tl.sum(weight * by_y2, 1).to(tl.float64)
        sum_area += tl.sum(weight * by_area, 1).to(tl.float64)
        sum_angle += tl.sum(weight * by_angle, 1).to(tl.float64)
        first += THEIRS

    place = sums + (batch * runs + run) * _FIELDS * count + box
    tl.store(place, sum_x1, box < count)
    tl.store(place + count, sum_y1, box < count)
    tl.store(place + 2 * count, sum_x2, box < count)
    tl.store(place + 3 * count, sum_y2, box < count)
    tl.store(place + 4 * count, sum_area, box < count)
    tl.store(place + 5 * count, sum_angle, box < count)


@triton.jit
def aligned_backward_kernel(
    mine, theirs, grad, sums,
    count,
    MODE: tl.constexpr, MINE_FIRST: tl.constexpr, OFFSET: tl.constexpr, COMPUTE: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """As backward_kernel, each box with its one partner: sums is (6, count)."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    mask = pair < count
    mx1, my1, mx2, my2 = load_boxes(mine, pair, mask, COMPUTE)
    tx1, ty1, tx2, ty2 = load_boxes(theirs, pair, mask, COMPUTE)
    area_m, angle_m = measure(mx1, my1, mx2, my2, OFFSET, MODE)
    area_t, angle_t = measure(tx1, ty1, tx2, ty2, OFFSET, MODE)
    weight = tl.load(grad + pair, mask, 0).to(COMPUTE)
    by_x1, by_y1, by_x2, by_y2, by_area, by_angle = pair_gradient(
        mx1, my1, mx2, my2, area_m, angle_m, tx1, ty1, tx2, ty2, area_t, angle_t, OFFSET, MODE, MINE_FIRST
    )  # fmt: skip
    place = sums + pair
    tl.store(place, (weight * by_x1).to(tl.float64), mask)
    tl.store(place + count, (weight * by_y1).to(tl.float64), mask)
    tl.store(place + 2 * count, (weight * by_x2).to(tl.float64), mask)
    tl.store(place + 3 * count, (weight * by_y2).to(tl.float64), mask)
    tl.store(place + 4 * count, (weight * by_area).to(tl.float64), mask)
    tl.store(place + 5 * count, (weight * by_angle).to(tl.float64), mask)


@triton.jit
def finish_kernel(
    mine, sums, grad_mine,
    count, runs,
    OFFSET: tl.constexpr, LARGEST: tl.constexpr, BOXES: tl.constexpr,
):  # fmt: skip
    """Writes grad_mine (batch, count, 4) from the sums of each run; finite values beyond LARGEST become that."""
    blocks = tl.cdiv(count, BOXES)
    batch = (tl.program_id(0) // blocks).to(tl.int64)
    box = tl.program_id(0) % blocks * BOXES + tl.arange(0, BOXES)
    mask = box < count
    nothing = tl.zeros([BOXES], tl.float64)
    by_x1, by_y1, by_x2, by_y2, by_area, by_angle = nothing, nothing, nothing, nothing, nothing, nothing
    place = sums + batch * runs * _FIELDS * count + box
    run = 0
    while run < runs:
        by_x1 += tl.load(place, mask, 0)
        by_y1 += tl.load(place + count, mask, 0)
        by_x2 += tl.load(place + 2 * count, mask, 0)
        by_y2 += tl.load(place + 3 * count, mask, 0)
        by_area += tl.load(place + 4 * count, mask, 0)
        by_angle += tl.load(place + 5 * count, mask, 0)
        place += _FIELDS * count
        run += 1
    x1, y1, x2, y2 = load_boxes(mine, batch * count + box, mask, tl.float64)
    grad_x1, grad_y1, grad_x2, grad_y2 = coordinate_gradient(
        x1, y1, x2, y2, by_x1, by_y1, by_x2, by_y2, by_area, by_angle, OFFSET
    )
    corner = grad_mine + (batch * count + box) * 4
    tl.store(corner, _narrowed(grad_x1, LARGEST, grad_mine.dtype.element_ty), mask)
    tl.store(corner + 1, _narrowed(grad_y1, LARGEST, grad_mine.dtype.element_ty), mask)
    tl.store(corner + 2, _narrowed(grad_x2, LARGEST, grad_mine.dtype.element_ty), mask)
    tl.store(corner + 3, _narrowed(grad_y2, LARGEST, grad_mine.dtype.element_ty), mask)


@triton.jit
def _narrowed(value, LARGEST: tl.constexpr, DTYPE: tl.constexpr):
    """Narrowing makes no infinity of a finite value."""
    bounded = tl.where(value > LARGEST, LARGEST, tl.where(value < -LARGEST, -LARGEST, value))
    bounded = tl.where(value - value == 0, bounded, value)
    if DTYPE != tl.float64:
        bounded = bounded.to(tl.float32)
    return bounded.to(DTYPE)


def box_iou(boxes1: Tensor, boxes2: Tensor, mode: int, aligned: bool, pixel_offset: int) -> Tensor:
    """The operation `box_iou` on this backend: (..., N, M), or (..., N) if aligned."""
    boxes1, boxes2 = boxes1.contiguous(), boxes2.contiguous()
    n, m = boxes1.shape[-2], boxes2.shape[-2]
    sizes = boxes1.shape[:-1] if aligned else (*boxes1.shape[:-1], m)
    out = boxes1.new_empty(sizes, dtype=result_dtype(boxes1.dtype))
    if out.numel() == 0:
        return out
    compute = _compute(boxes1.dtype)
    if aligned:
        grid = (triton.cdiv(out.numel(), _PAIRS),)
        launch(
            aligned_kernel, grid,
            boxes1, boxes2, out, out.numel(),
            MODE=mode, OFFSET=pixel_offset, COMPUTE=compute, PAIRS=_PAIRS,
        )  # fmt: skip
    else:
        grid = (out.numel() // (n * m) * triton.cdiv(n, _ROWS) * triton.cdiv(m, _COLUMNS),)
        launch(
            matrix_kernel, grid,
            boxes1, boxes2, out, n, m,
            MODE=mode, OFFSET=pixel_offset, COMPUTE=compute, ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=_WARPS,
        )  # fmt: skip
    return out


def box_iou_backward(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor, mode: int, aligned: bool, pixel_offset: int
) -> tuple[Tensor, Tensor]:
    """The operation `box_iou_backward` on this backend: gradients with the shapes of boxes1 and boxes2."""
    grad, boxes1, boxes2 = grad.contiguous(), boxes1.contiguous(), boxes2.contiguous()
    sides = ((boxes1, boxes2, True), (boxes2, boxes1, False))
    first, second = (_side_gradient(grad, *side, mode, aligned, pixel_offset) for side in sides)
    return first, second


def _side_gradient(
    grad: Tensor, mine: Tensor, theirs: Tensor, mine_first: bool, mode: int, aligned: bool, pixel_offset: int
) -> Tensor:
    if grad.numel() == 0:
        return torch.zeros_like(mine)
    out = torch.empty_like(mine)
    compute = _compute(mine.dtype)
    if aligned:
        batch, count, runs = 1, grad.numel(), 1
        sums = mine.new_empty((1, 1, 6, count), dtype=torch.float64)
        launch(
            aligned_backward_kernel, (triton.cdiv(count, _PAIRS),),
            mine, theirs, grad, sums, count,
            MODE=mode, MINE_FIRST=mine_first, OFFSET=pixel_offset, COMPUTE=compute, PAIRS=_PAIRS,
        )  # fmt: skip
    else:
        count, others = mine.shape[-2], theirs.shape[-2]
        batch, runs = grad.numel() // (count * others), triton.cdiv(others, _RUN)
        strides = (others, 1) if mine_first else (1, count)
        sums = mine.new_empty((batch, runs, 6, count), dtype=torch.float64)
        launch(
            backward_kernel, (batch * triton.cdiv(count, _MINE) * runs,),
            mine, theirs, grad, sums, count, others, *strides, count * others,
            MODE=mode, MINE_FIRST=mine_first, OFFSET=pixel_offset, COMPUTE=compute,
            MINE=_MINE, THEIRS=_THEIRS, RUN=_RUN, num_warps=_WARPS,
        )  # fmt: skip
    launch(
        finish_kernel, (batch * triton.cdiv(count, _PAIRS),),
        mine, sums, out, count, runs,
        OFFSET=pixel_offset, LARGEST=torch.finfo(mine.dtype).max, BOXES=_PAIRS,
    )  # fmt: skip
    return out


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype in _WIDE else tl.float32
