"""Batch norm on a GPU, beside torch's, eager and compiled: ResNet-50's maps of 32 images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import visionops
from benchmarks.gpu_rows import GpuRow

MAPS = ((64, 112), (64, 56), (256, 56), (512, 28), (1024, 14), (2048, 7))
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 4e-2}


def rows(scale: int) -> list[GpuRow]:
    """Training forward and step in float32 and bfloat16, channels last, and one map in each other way.

    The number of images is divided by `scale`.
    """
    found = []
    for dtype in TOLERANCES:
        for channels, size in MAPS:
            for what in ("forward", "step"):
                found.append(_row(what, channels, size, 32 // scale, dtype, torch.channels_last))
    for what in ("forward", "step", "eval"):
        found.append(_row(what, 64, 56, 32 // scale, torch.float32, torch.contiguous_format))
    return [*found, _row("eval", 64, 56, 32 // scale, torch.float32, torch.channels_last)]


def _row(what: str, channels: int, size: int, images: int, dtype: torch.dtype, layout: torch.memory_format) -> GpuRow:
    generator = torch.Generator().manual_seed(0)
    x, residual = (
        torch.randn(max(images, 1), channels, size, size, generator=generator)
        .to(dtype)
        .contiguous(memory_format=layout)
        for _ in range(2)
    )
    weight, bias = torch.rand(channels, generator=generator) + 0.5, torch.randn(channels, generator=generator)
    inputs = [x, residual, weight, bias, torch.zeros(channels), torch.ones(channels)]
    name = f"BN-{channels}@{size}-add-relu-{what}-{'NHWC' if layout == torch.channels_last else 'NCHW'}"
    label = name if dtype == torch.float32 else f"{name}-bf16"
    call: Any = partial(_step if what == "step" else _forward, training=what != "eval")

    @cache
    def compiled() -> Callable[..., Tensor]:
        torch.compiler.reset()  # it compiles a function for a few shapes only
        return torch.compile(_eager, dynamic=False)

    peers: dict[str, Any] = {"torch": partial(call, _eager), "torch.compile": lambda *inputs: call(compiled(), *inputs)}
    return GpuRow(label, partial(call, _ours), peers, inputs, TOLERANCES[dtype])


def _ours(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, training: bool
) -> Tensor:
    return visionops.fused_batch_norm(x, weight, bias, mean, var, training, residual=residual, activation="relu")


def _eager(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, training: bool
) -> Tensor:
    return F.relu(F.batch_norm(x, mean, var, weight, bias, training) + residual)


def _forward(function: Callable[..., Tensor], *inputs: Tensor, training: bool) -> Tensor:
    return function(*inputs, training=training)


def _step(function: Callable[..., Tensor], *inputs: Tensor, training: bool) -> tuple[Tensor, ...]:
    """All four gradients; of the output they take its own value."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs[:4]]
    out = function(*leaves, *inputs[4:], training=training)
    return torch.autograd.grad(out, leaves, out.detach())
