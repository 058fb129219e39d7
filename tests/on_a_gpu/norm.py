"""Batch norm in training with residual and activation, and its gradients, in Triton."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from on_a_gpu import LAYOUTS, GpuCall, learns
from visionops import fused_batch_norm


def calls() -> list[GpuCall]:
    """In both layouts."""
    return [GpuCall(f"norm-{name}", partial(inputs, layout), trained, 1e-4) for name, layout in LAYOUTS.items()]


def inputs(layout: torch.memory_format, seed: int = 0) -> list[Tensor]:
    """Input, residual, gradient, weight, bias and running estimates."""
    generator = torch.Generator().manual_seed(seed)
    images = (torch.randn(5, 70, 9, 11, generator=generator).contiguous(memory_format=layout) for _ in range(3))
    weight, bias = torch.rand(70, generator=generator) + 0.5, torch.randn(70, generator=generator)
    return [*images, weight, bias, torch.zeros(70), torch.ones(70)]


def trained(x: Tensor, residual: Tensor, grad: Tensor, *channels: Tensor) -> tuple[Tensor, ...]:
    """The output, all gradients, and the moved estimates."""
    weight, bias, mean, var = (t.clone() for t in channels)

    def call(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return fused_batch_norm(x, weight, bias, mean, var, True, residual=residual, activation="relu")

    return *learns(call, [x, residual, weight, bias], [grad]), mean, var
