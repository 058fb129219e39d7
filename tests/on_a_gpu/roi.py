"""All operations on regions and their gradients: by atomics, and gathered where torch asks for determinism."""

from __future__ import annotations

from functools import partial
from unittest import mock

import torch
from torch import Tensor

from on_a_gpu import LAYOUTS, GpuCall, learns
from visionops import multiscale_roi_align, roi_align, roi_pool


def calls() -> list[GpuCall]:
    """In both layouts, and in the types whose gradients are summed in a wider one."""
    kinds = [(name, layout, torch.float32, 1e-4) for name, layout in LAYOUTS.items()]
    kinds += [("float16", torch.contiguous_format, torch.float16, 2e-2)]
    kinds += [("bfloat16", torch.contiguous_format, torch.bfloat16, 1e-1)]
    return [
        GpuCall(f"roi-{name}-{way}", partial(regions, layout, dtype), partial(pooled, way == "gather"), error, on_cpu)
        for name, layout, dtype, error in kinds
        for way in ("atomics", "gather")
    ]


def regions(layout: torch.memory_format, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Two maps, boxes across and beyond them, and the gradient of what is pooled."""
    generator = torch.Generator().manual_seed(seed)
    fine, coarse = (torch.randn(2, 20, size, size + 10, generator=generator).to(dtype) for size in (60, 30))
    corners = torch.rand(150, 2, generator=generator) * 260 - 20
    sides = torch.rand(150, 2, generator=generator) ** 2 * 200
    image = torch.randint(-1, 3, (150, 1), generator=generator)  # some of no image
    boxes = torch.cat([image, corners, corners + sides], 1)
    boxes[3, 2] = torch.nan
    grad = torch.randn(4, 150, 20, 7, 7, generator=generator).to(dtype)
    return [fine.contiguous(memory_format=layout), coarse.contiguous(memory_format=layout), boxes, grad]


def pooled(deterministic: bool, fine: Tensor, coarse: Tensor, boxes: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The results and the gradients of both maps."""

    def call(fine: Tensor, coarse: Tensor) -> tuple[Tensor, ...]:
        return (
            roi_align(fine, boxes, 7, 1 / 4, 0, True),
            roi_align(fine, boxes, 7, 1 / 4, 2, mode="max"),
            roi_pool(fine, boxes, 7, 1 / 4),
            multiscale_roi_align([fine, coarse], boxes, 7, [1 / 4, 1 / 8], canonical_size=100, canonical_level=3),
        )

    with mock.patch.object(torch, "are_deterministic_algorithms_enabled", return_value=deterministic):
        return learns(call, [fine, coarse], list(grad))


def on_cpu(fine: Tensor, coarse: Tensor, boxes: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The same, where a RoI without an image is an error: there it is one with a NaN."""
    boxes = boxes.clone()
    boxes[(boxes[:, 0] < 0) | (boxes[:, 0] >= len(fine))] = torch.nan
    return pooled(False, fine, coarse, boxes, grad)
