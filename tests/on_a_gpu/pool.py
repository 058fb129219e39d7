"""Every pooling and its gradient."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import visionops
from on_a_gpu import LAYOUTS, GpuCall, learns


def calls() -> list[GpuCall]:
    """In both layouts."""
    return [GpuCall(f"pool-{name}", partial(images, layout), pooled, 1e-5) for name, layout in LAYOUTS.items()]


def images(layout: torch.memory_format, seed: int = 0) -> list[Tensor]:
    """Two images."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 24, 37, 41, generator=generator).contiguous(memory_format=layout)]


def pooled(image: Tensor) -> tuple[Tensor, ...]:
    """All results, gradients through autograd among them."""
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    maxima, offsets = visionops.max_pool2d_with_offsets(image, **window)
    _, indices = visionops.max_pool2d(image, **window, return_indices=True)
    averages = visionops.avg_pool2d(image, **window)
    return (
        maxima,
        offsets,
        indices,
        averages,
        visionops.max_pool2d_backward(maxima, offsets, image.shape, **window),
        visionops.avg_pool2d_backward(averages, image.shape, **window),
        visionops.max_unpool2d(maxima, indices, **window, output_size=image.shape[2:]),
        visionops.adaptive_avg_pool2d(image, (4, 3)),
        *visionops.adaptive_max_pool2d(image, (4, 3), return_indices=True),
        visionops.spatial_pyramid_pool(image),
        *learns(partial(visionops.max_pool2d, **window), [image], [maxima]),
        *learns(partial(visionops.avg_pool2d, **window), [image], [averages]),
    )
