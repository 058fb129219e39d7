"""IoU matrices on a GPU, beside torchvision's formulas, eager and compiled."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

import visionops
from benchmarks.gpu_rows import GpuRow
from benchmarks.peers import TORCHVISION
from visionops.boxes.random_boxes import uniform_boxes


def rows(scale: int) -> list[GpuRow]:
    """Square matrices, and anchors against the objects of an image; sizes are divided by `scale`."""
    rng = np.random.default_rng(0)
    found = []
    for name, n, m in (("1k", 1000, 1000), ("10k", 10_000, 10_000), ("RPN", 268_569, 100)):
        a, b = (torch.from_numpy(uniform_boxes(rng, max(size // scale, 2))).float() for size in (n, m))
        for mode, peer in (("iou", "box_iou"), ("giou", "generalized_box_iou")):
            ours = partial(visionops.box_iou, mode=mode)
            found.append(GpuRow(f"{mode.upper()}-{name}", ours, _peers(peer), [a, b]))
    return found


def _peers(name: str) -> dict[str, Any]:
    if TORCHVISION is None:
        return {}
    formula = getattr(TORCHVISION.ops, name)
    return {"torchvision": formula, "torch.compile": torch.compile(formula)}
