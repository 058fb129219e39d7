"""Maps and regions drawn for the tests of room `roi`, and the calls that they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionops import roi_align, roi_pool
from visionops.roi import cases

CALLS: dict[str, Any] = {
    "avg": lambda x, b: roi_align(x, b, (3, 2), 0.5, 2, True),
    "avg-adaptive": lambda x, b: roi_align(x, b, 7, 0.5),
    "max": lambda x, b: roi_align(x, b, (3, 2), 0.5, 2, True, mode="max"),
    "max-adaptive": lambda x, b: roi_align(x, b, 7, 0.5, mode="max"),
    "pool": lambda x, b: roi_pool(x, b, (3, 2), 0.5),
    "pool-many": lambda x, b: roi_pool(x, b, 7, 0.5),
}


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def boxes_on(batch: int, height: int, width: int, count: int = 9, seed: int = 0) -> Tensor:
    return torch.from_numpy(cases.random_rois(np.random.default_rng(seed), count, batch, height, width))


def last(image: Tensor) -> Tensor:
    return image.to(memory_format=torch.channels_last)


def gradient(call: Any, image: Tensor, boxes: Tensor, grad: Tensor) -> Tensor:
    image = image.detach().requires_grad_()
    call(image, boxes).backward(grad)
    assert image.grad is not None
    return image.grad
