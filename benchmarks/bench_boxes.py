"""Rows of the box operations: every pair of two sets, from call overhead to results of 400 MB."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import visionops
from benchmarks import roofs
from benchmarks.peers import TORCHVISION
from benchmarks.row import Row, Workload
from benchmarks.turns import Call
from visionops.boxes import reference
from visionops.boxes.random_boxes import scattered_boxes
from visionops.testing import compare

GATED_PAIRS = 1_000_000


def rows() -> list[Row]:
    """The rows, and the least speed-up that we ask of each."""
    return [
        Row("IOU-8", partial(_pairs, "iou", 8, 8)),
        Row("IOU-100", partial(_pairs, "iou", 100, 100), {"torchvision": 25}),
        Row("IOU-SQ-1k", partial(_pairs, "iou", 1000, 1000)),
        Row("IOU-SQ-4k", partial(_pairs, "iou", 4000, 4000), {"torchvision": 30}),
        Row("IOU-SQ-10k", partial(_pairs, "iou", 10_000, 10_000), slow=True),
        Row("IOU-RPN", partial(_pairs, "iou", 268_569, 100)),
        Row("IOU-SSD", partial(_pairs, "iou", 8732, 50, batch=32)),
        Row("GIOU-100", partial(_pairs, "giou", 100, 100)),
        Row("GIOU-SQ-4k", partial(_pairs, "giou", 4000, 4000), {"torchvision": 60}),
    ]


def _pairs(mode: str, n: int, m: int, batch: int | None = None) -> Workload:
    """(n, 4) boxes against (m, 4), or against a batch of those."""
    rng = np.random.default_rng(0)
    a = torch.from_numpy(scattered_boxes(rng, n)).float()
    b = torch.from_numpy(scattered_boxes(rng, m * (batch or 1))).float()
    if batch is not None:
        b = b.view(batch, m, 4)
    ours = {"iou": visionops.box_iou, "giou": visionops.generalized_box_iou}[mode]
    peers: dict[str, Call] = {
        "torchvision": lambda: (TORCHVISION.ops.box_iou if mode == "iou" else TORCHVISION.ops.generalized_box_iou)(
            a, b
        ),
        "torch": partial({"iou": _eager_iou, "giou": _eager_giou}[mode], a, b),
        "torch.compile": _compiled({"iou": _eager_iou, "giou": _eager_giou}[mode], a, b),
    }
    return Workload(partial(ours, a, b), peers, partial(_gate, mode, a, b), roofs.writes(4 * n * m * (batch or 1)))


def _gate(mode: str, a: Tensor, b: Tensor, result: Tensor) -> str:
    """Whole rows of the result, spread over it, as many as the reference can compute in a moment."""
    n, m = len(a), b[..., 0].numel()
    rows = np.unique(np.linspace(0, n - 1, min(n, max(2, GATED_PAIRS // m)), dtype=np.int64))
    expected = reference.box_iou(a.numpy()[rows], b.numpy(), mode=mode)
    compare(result[..., torch.from_numpy(rows), :].double().numpy(), expected, "float32")
    return "reference" if len(rows) == n else f"reference on {len(rows):,} of {n:,} rows"


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.max(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.min(a[..., :, None, 2:], b[..., None, :, 2:])
    side = (high - low).clamp(min=0)
    intersection = side[..., 0] * side[..., 1]
    area_a, area_b = ((x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b))
    return intersection, area_a[..., :, None] + area_b[..., None, :] - intersection


def _eager_iou(a: Tensor, b: Tensor) -> Tensor:
    """The formula of torchvision without its argument checks."""
    intersection, union = _intersection_and_union(a, b)
    return intersection / union


def _eager_giou(a: Tensor, b: Tensor) -> Tensor:
    """The formula of torchvision without its argument checks."""
    intersection, union = _intersection_and_union(a, b)
    low = torch.min(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.max(a[..., :, None, 2:], b[..., None, :, 2:])
    side = (high - low).clamp(min=0)
    hull = side[..., 0] * side[..., 1]
    return intersection / union - (hull - union) / hull


def _compiled(function: Any, a: Tensor, b: Tensor) -> Call:
    """For these sizes alone, which is torch.compile at its best."""
    torch.compiler.reset()
    return partial(torch.compile(function, dynamic=False), a, b)
