"""Rows of depthwise convolution alone: of MobileNets, EfficientNet (5 x 5 windows) and ConvNeXt (7 x 7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import visionops
from benchmarks.bench_depthwise import LAYOUTS
from benchmarks.row import Row, Workload
from visionops.conv import reference
from visionops.testing import compare

# Channels, side, stride, window.
LAYERS = {
    "32@112": (32, 112, 1, 3),
    "96@112s2": (96, 112, 2, 3),
    "144@56": (144, 56, 1, 3),
    "384@14": (384, 14, 1, 3),
    "960@7": (960, 7, 1, 3),
    "672@14k5": (672, 14, 1, 5),
    "192@28k7": (192, 28, 1, 7),
}


def rows() -> list[Row]:
    """The rows; forward alone, and with both gradients."""
    return [
        Row(f"DW-{name}-N8-{what}-{layout}", partial(_layer, what, layout, *layer))
        for name, layer in LAYERS.items()
        for what in ("forward", "step")
        for layout in LAYOUTS
    ]


def _layer(what: str, layout: str, channels: int, side: int, stride: int, window: int) -> Workload:
    generator = torch.Generator().manual_seed(channels + side)
    x = torch.randn(8, channels, side, side, generator=generator).contiguous(memory_format=LAYOUTS[layout])
    weight = torch.randn(channels, 1, window, window, generator=generator)
    arguments: Any = (None, stride, window // 2, 1, channels)

    def gate(result: Tensor) -> str:
        some = (x[:1, :4].detach().numpy(), weight[:4].detach().numpy())
        expected = reference.conv2d(*some, None, stride, window // 2, 1, 4)
        compare(result[:1, :4].double().numpy(), expected, "float32", window**2)
        return f"reference on four channels of an image{'; gradients in tests/conv' if what == 'step' else ''}"

    if what == "forward":
        ours = partial(visionops.conv2d, x, weight, *arguments)
        return Workload(ours, {"torch": partial(F.conv2d, x, weight, *arguments)}, gate)
    leaves = x.requires_grad_(), weight.requires_grad_()
    grad = torch.randn(F.conv2d(*leaves, *arguments).shape, generator=generator).contiguous(
        memory_format=LAYOUTS[layout]
    )

    def step(conv2d: Callable[..., Tensor]) -> Tensor:
        out = conv2d(*leaves, *arguments)
        torch.autograd.grad(out, leaves, grad)
        return out.detach()

    return Workload(partial(step, visionops.conv2d), {"torch": partial(step, F.conv2d)}, gate)
