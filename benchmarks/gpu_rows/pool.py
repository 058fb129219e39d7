"""Pooling and its gradients on a GPU, in both layouts, beside torch's."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import visionops
from benchmarks.gpu_rows import GpuRow

STEM: dict[str, Any] = {"kernel_size": 3, "stride": 2, "padding": 1}
HALVING: dict[str, Any] = {"kernel_size": 2, "stride": 2, "padding": 0}
WIDE: dict[str, Any] = {"kernel_size": 13, "stride": 1, "padding": 6}


def rows(scale: int) -> list[GpuRow]:
    """The stem of a ResNet, halving, wide windows, the last average; channels are divided by `scale`."""
    found = []
    shapes = {
        "stem": ((32, max(64 // scale, 1), 112, 112), STEM),
        "2x2": ((1, max(64 // scale, 1), 224, 224), HALVING),
        "13x13": ((8, max(256 // scale, 1), 20, 20), WIDE),
    }
    for layout in (torch.contiguous_format, torch.channels_last):
        label = "NCHW" if layout is torch.contiguous_format else "NHWC"
        for name, (shape, window) in shapes.items():
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
            found += _maxima(f"POOL-{name}-max", label, x, window)
            found += _averages(f"POOL-{name}-avg", label, x, window)
        x = torch.randn(32, max(2048 // scale, 1), 7, 7).contiguous(memory_format=layout)
        ours, theirs = visionops.global_avg_pool2d, partial(F.adaptive_avg_pool2d, output_size=1)
        found.append(GpuRow(f"POOL-global-avg-{label}", ours, {"torch": theirs}, [x]))
        pyramid = visionops.spatial_pyramid_pool
        found.append(GpuRow(f"POOL-pyramid-{label}", pyramid, {"torch": _pyramid}, [x]))
    return found


def _maxima(name: str, label: str, x: Tensor, window: dict[str, Any]) -> list[GpuRow]:
    """Values alone, with what their gradient needs, that gradient, and unpooling."""
    output, offsets = visionops.max_pool2d_with_offsets(x, **window)
    indices = visionops.max_pool2d(x, **window, return_indices=True)[1]
    grad = torch.randn_like(output)
    theirs = partial(F.max_pool2d, **window)
    return [
        GpuRow(
            f"{name}-{label}",
            partial(visionops.max_pool2d, **window),
            {"torch": theirs, "torch.compile": torch.compile(theirs)},
            [x],
        ),
        GpuRow(
            f"{name}-offsets-{label}",
            partial(visionops.max_pool2d_with_offsets, **window),
            {"torch": partial(F.max_pool2d, **window, return_indices=True)},
            [x],
        ),
        GpuRow(
            f"{name}-backward-{label}",
            lambda grad, x, offsets, _: visionops.max_pool2d_backward(grad, offsets, x.shape, **window),
            {
                "torch": lambda grad, x, _, indices: torch.ops.aten.max_pool2d_with_indices_backward(
                    grad, x, *_pairs(window), [1, 1], False, indices
                )
            },
            [grad, x, offsets, indices],
        ),
        GpuRow(
            f"{name}-unpool-{label}",
            partial(visionops.max_unpool2d, **window, output_size=x.shape),
            {"torch": partial(F.max_unpool2d, **window, output_size=x.shape)},
            [output, indices],
        ),
    ]


def _averages(name: str, label: str, x: Tensor, window: dict[str, Any]) -> list[GpuRow]:
    grad = torch.randn_like(visionops.avg_pool2d(x, **window))
    theirs = partial(F.avg_pool2d, **window)
    return [
        GpuRow(
            f"{name}-{label}",
            partial(visionops.avg_pool2d, **window),
            {"torch": theirs, "torch.compile": torch.compile(theirs)},
            [x],
        ),
        GpuRow(
            f"{name}-backward-{label}",
            lambda grad, x: visionops.avg_pool2d_backward(grad, x.shape, **window),
            {"torch": lambda grad, x: torch.ops.aten.avg_pool2d_backward(grad, x, *_pairs(window), False, True, None)},
            [grad, x],
        ),
    ]


def _pairs(window: dict[str, Any]) -> list[list[int]]:
    return [[size] * 2 for size in window.values()]


def _pyramid(x: Tensor) -> Any:
    return torch.cat([F.adaptive_max_pool2d(x, level).flatten(1) for level in (1, 2, 4)], 1)
