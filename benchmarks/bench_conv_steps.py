"""Rows of training steps of convolutions, and of transposed convolutions, in both layouts."""

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

# Channels, side, filters, kernel, stride: of ResNet-50.
LAYERS = {
    "64@56k3": (64, 56, 64, 3, 1),
    "128-256@56s2": (128, 56, 256, 3, 2),
    "256@14k3": (256, 14, 256, 3, 1),
    "512-2048@7": (512, 7, 2048, 1, 1),
}
# Channels, side, filters, kernel, stride, padding, output_padding: of Mask R-CNN's head and of two decoders.
TRANSPOSED = {
    "256@14k2s2": (256, 14, 256, 2, 2, 0, 0),
    "128-64@28k4s2": (128, 28, 64, 4, 2, 1, 0),
    "64-32@32k3s2": (64, 32, 32, 3, 2, 1, 1),
}


def rows() -> list[Row]:
    """The rows, of batches of four images."""
    steps = [
        Row(f"CONV-R50-{name}-N4-step-{layout}", partial(_convolution, layout, *layer))
        for name, layer in LAYERS.items()
        for layout in LAYOUTS
    ]
    transposed = [
        Row(f"CONVT-{name}-N4-{what}-{layout}", partial(_transposed, what, layout, *layer))
        for name, layer in TRANSPOSED.items()
        for what in ("forward", "step")
        for layout in LAYOUTS
    ]
    return steps + transposed


def _convolution(layout: str, channels: int, side: int, filters: int, kernel: int, stride: int) -> Workload:
    x, weight = _drawn(layout, (4, channels, side, side), (filters, channels, kernel, kernel))
    window: Any = (None, stride, kernel // 2)

    def gate(result: Tensor) -> str:
        some = [0, filters // 2, filters - 1]
        expected = reference.conv2d(x[:1].numpy(), weight[some].numpy(), *window)
        compare(result[:1, some].double().numpy(), expected, "float32", channels * kernel**2)
        return "reference on three channels of an image; gradients in tests/conv"

    return _workload("step", visionops.conv2d, F.conv2d, (x, weight), window, gate)


def _transposed(
    what: str, layout: str, channels: int, side: int, filters: int, kernel: int, stride: int, padding: int, extra: int
) -> Workload:
    x, weight = _drawn(layout, (4, channels, side, side), (channels, filters, kernel, kernel))
    window: Any = (None, stride, padding, extra)

    def gate(result: Tensor) -> str:
        some = [0, filters // 2, filters - 1]
        expected = reference.conv_transpose2d(x[:1].numpy(), weight[:, some].numpy(), *window)
        compare(result[:1, some].double().numpy(), expected, "float32", channels * kernel**2)
        return f"reference on three channels of an image{'; gradients in tests/conv' if what == 'step' else ''}"

    return _workload(what, visionops.conv_transpose2d, F.conv_transpose2d, (x, weight), window, gate)


def _workload(
    what: str,
    ours: Callable[..., Tensor],
    torchs: Callable[..., Tensor],
    tensors: tuple[Tensor, Tensor],
    window: tuple[Any, ...],
    gate: Callable[[Tensor], str],
) -> Workload:
    """Forward alone, or with both gradients."""
    if what == "forward":
        return Workload(partial(ours, *tensors, *window), {"torch": partial(torchs, *tensors, *window)}, gate)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    grad = torch.randn_like(torchs(*tensors, *window))

    def step(function: Callable[..., Tensor]) -> Tensor:
        out = function(*leaves, *window)
        torch.autograd.grad(out, leaves, grad)
        return out.detach()

    return Workload(partial(step, ours), {"torch": partial(step, torchs)}, gate)


def _drawn(layout: str, image: tuple[int, ...], filters: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """As a network holds both in a layout."""
    generator = torch.Generator().manual_seed(sum(image))
    x, weight = (torch.randn(shape, generator=generator) for shape in (image, filters))
    weight /= (image[1] * filters[-1] ** 2) ** 0.5
    return x.contiguous(memory_format=LAYOUTS[layout]), weight.contiguous(memory_format=LAYOUTS[layout])
