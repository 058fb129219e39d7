"""Rows of the norms: ResNet-50's maps of 16 images, plain and with what follows, training, backward and eval."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import visionops
from benchmarks import roofs
from benchmarks.row import Row, Workload
from benchmarks.turns import Call
from visionops.norm import reference
from visionops.testing import compare

GATED_CHANNELS = 4
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


def rows() -> list[Row]:
    """The canonical names; what is asked is PERFORMANCE.md's and issue 9's."""
    asked = {
        ("forward", "NCHW"): {"torch": 3.0, "torch.compile": 1.2},
        ("forward", "NHWC"): {"torch": 2.5, "torch.compile": 1.2},
        ("step", "NCHW"): {"torch": 2.0, "torch.compile": 1.2},
        ("step", "NHWC"): {"torch": 2.0, "torch.compile": 1.2},
    }
    found = []
    for what in ("forward", "step", "eval"):
        for layout in LAYOUTS:
            name = f"BN-64@56-add-relu-{what}-{layout}"
            make = partial(_norm, what, layout, 64, 56, residual=True)
            found.append(Row(name, make, asked.get((what, layout), {})))
    for layout in LAYOUTS:
        make = partial(_norm, "step", layout, 64, 56, residual=False)
        found.append(Row(f"BN-64@56-relu-step-{layout}", make, {"torch": 2.0}))
    for channels, size in ((256, 56), (512, 28), (2048, 7)):
        for layout in LAYOUTS:
            make = partial(_norm, "step", layout, channels, size, residual=True)
            found.append(Row(f"BN-{channels}@{size}-add-relu-step-{layout}", make))
    return found


def _norm(what: str, layout: str, channels: int, size: int, *, residual: bool) -> Workload:
    """A forward pass in training, with its backward pass ("step"), or in eval."""
    generator = torch.Generator().manual_seed(0)

    def image() -> Tensor:
        return torch.randn(16, channels, size, size, generator=generator).contiguous(memory_format=LAYOUTS[layout])

    x, other, grad = image(), image() if residual else None, image()
    weight, bias = torch.rand(channels, generator=generator) + 0.5, torch.randn(channels, generator=generator)
    leaves = [t for t in (x, weight, bias, other) if t is not None]
    for leaf in leaves:
        leaf.requires_grad_(what == "step")
    estimates = torch.zeros(channels), torch.ones(channels)
    training = what != "eval"

    def ours(x: Tensor, other: Tensor | None) -> Tensor:
        return visionops.fused_batch_norm(x, weight, bias, *estimates, training, residual=other, activation="relu")

    def eager(x: Tensor, other: Tensor | None) -> Tensor:
        before = F.batch_norm(x, *estimates, weight, bias, training)
        return F.relu(before if other is None else before + other)

    def call(function: Any) -> Any:
        out = function(x, other)
        return list(torch.autograd.grad(out, leaves, grad)) if what == "step" else out

    torch.compiler.reset()
    peers: dict[str, Call] = {
        "torch": partial(call, eager),
        "torch.compile": partial(call, torch.compile(eager, dynamic=False)),
    }
    arguments = (x, weight, bias, other, grad, training)
    return Workload(partial(call, ours), peers, partial(_gate, arguments), roofs.writes(x.nbytes))


def _gate(arguments: tuple[Any, ...], result: Any) -> str:
    """A few channels, spread over all, of the output or of all four gradients."""
    x, weight, bias, other, grad, training = arguments
    some = np.unique(np.linspace(0, x.shape[1] - 1, GATED_CHANNELS, dtype=np.int64))
    image, incoming = (t.detach()[:, some].numpy() for t in (x, grad))
    residual = None if other is None else other.detach()[:, some].numpy()
    affine = weight.detach()[some].numpy(), bias.detach()[some].numpy()
    estimates = np.zeros(len(some)), np.ones(len(some))
    options: dict[str, Any] = {"residual": residual, "activation": "relu"}
    count = x.numel() // x.shape[1]
    if isinstance(result, list):
        expected = reference.fused_batch_norm_backward(incoming, image, *affine, *estimates, training, **options)
        for got, wanted in zip(result, expected, strict=False):
            part = got[some] if got.ndim == 1 else got[:, some]
            compare(part.double().numpy(), wanted, "float32", count)
        return f"reference on gradients of {len(some)} of {x.shape[1]} channels"
    wanted = reference.fused_batch_norm(image, *affine, *estimates, training, **options)
    compare(result.detach()[:, some].double().numpy(), wanted, "float32", 4)
    return f"reference on {len(some)} of {x.shape[1]} channels"
