"""Suppression on a GPU, beside torchvision's; of soft and matrix NMS there is no peer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import visionops
from benchmarks.gpu_rows import GpuRow
from benchmarks.peers import TORCHVISION
from visionops.boxes.random_boxes import clustered_boxes, uniform_boxes


def rows(scale: int) -> list[GpuRow]:
    """Without classes, with them, and the forms that change scores; numbers of boxes are divided by `scale`."""
    rng = np.random.default_rng(0)
    found = []
    for name, n in (("1k", 1000), ("10k", 10_000), ("100k", 100_000)):
        for generate in (uniform_boxes, clustered_boxes):
            boxes, scores = _tensor(generate(rng, n // scale)), _tensor(rng.random(n // scale))
            padded = partial(visionops.nms, iou_threshold=0.5, max_output=1000, padded=True)
            label = f"NMS-{name}-{generate.__name__.removesuffix('_boxes')}"
            ours = partial(visionops.nms, iou_threshold=0.5)
            found.append(GpuRow(label, ours, _peers("nms", 0.5), [boxes, scores]))
            found.append(GpuRow(f"{label}-padded", padded, {}, [boxes, scores]))
    for name, n, classes, threshold in (("RPN", 4819, 5, 0.7), ("YOLO", 30_000, 80, 0.45), ("LVIS", 30_000, 1203, 0.5)):
        ours = partial(visionops.batched_nms, iou_threshold=threshold)
        found.append(
            GpuRow(f"NMS-{name}", ours, _peers("batched_nms", threshold), _detections(rng, n // scale, classes))
        )
    for n, classes in ((1000, 1), (4819, 5), (30_000, 80)):
        inputs = _detections(rng, n // scale, classes)
        for form in (visionops.soft_nms, visionops.matrix_nms, visionops.fast_nms):
            found.append(GpuRow(f"{form.__name__}-{n}x{classes}", partial(_scores_of, form), {}, inputs))
    masks = torch.from_numpy(rng.random((500 // scale, 200, 336)) < 0.5)
    ours = partial(_scores_of, visionops.mask_matrix_nms)
    return [*found, GpuRow("mask_matrix_nms-500", ours, {}, [masks, _tensor(rng.random(500 // scale))])]


def _detections(rng: np.random.Generator, n: int, classes: int) -> list[Tensor]:
    ids = torch.from_numpy(rng.integers(classes, size=n))
    return [_tensor(clustered_boxes(rng, n)), _tensor(rng.random(n)), ids]


def _scores_of(form: Callable[..., Any], *inputs: Tensor) -> Any:
    """The decayed scores: the indices beside them may change places where scores nearly tie. Or indices alone."""
    result = form(*inputs)
    return result[1] if isinstance(result, tuple) else result


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(values).float()


def _peers(name: str, threshold: float) -> dict[str, Any]:
    if TORCHVISION is None:
        return {}
    return {"torchvision": partial(getattr(TORCHVISION.ops, name), iou_threshold=threshold)}
