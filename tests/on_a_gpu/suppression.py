"""Every padded form of suppression, over two images."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from on_a_gpu import GpuCall
from visionops import batched_nms, fast_nms, matrix_nms, nms, soft_nms

SIZES = (0, 1, 257, 1100, 5000)


def calls() -> list[GpuCall]:
    """From no boxes to several blocks of them."""
    return [GpuCall(f"suppression-{n}", partial(candidates, n), padded, 1e-5) for n in SIZES]


def candidates(n: int, seed: int = 0) -> list[Tensor]:
    """Boxes, scores and classes."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(2, n, 4, generator=generator) * 100
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.rand(2, n, generator=generator)
    return [boxes, scores, torch.randint(7, (2, n), generator=generator)]


def padded(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
    """Of the forms that change scores only those: where they nearly tie, indices may change places."""
    return (
        *nms(boxes, scores, 0.5, max_output=200, padded=True),
        *batched_nms(boxes, scores, classes, 0.5, max_output=200, padded=True),
        *fast_nms(boxes, scores, classes, max_output=200, padded=True),
        *(values for form in (soft_nms, matrix_nms) for values in form(boxes, scores, max_output=30, padded=True)[1:]),
        *soft_nms(boxes, scores, classes, method="gaussian", max_output=30, padded=True)[1:],
    )
