"""Rows of `visionops.nn.convert`: networks as torch has them and converted, a training step and inference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import visionops
from benchmarks import peers
from benchmarks.row import Row, Workload
from networks import ResNet18

# Of torchvision, where it is installed: residual, depthwise, concatenated and plain.
MODELS = ("resnet50", "mobilenet_v3_large", "densenet121", "vgg11_bn")
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
# Of the norm of an output or a gradient: where a rounding takes a value across relu's kink, a gradient jumps.
TOLERANCE = 1e-2


def rows() -> list[Row]:
    """What is asked with channels first; with channels last torch's own norms and pooling leave less to win."""
    found = []
    for layout in LAYOUTS:
        for what, least in (("train", 1.07), ("eval", 1.15)):
            asked = {"torch": least} if layout == "NCHW" else {}
            found.append(Row(f"CONVERT-ResNet18-{what}-{layout}", partial(_convert, ResNet18, 8, what, layout), asked))
        for name in MODELS if peers.TORCHVISION else ():
            make = partial(getattr(peers.TORCHVISION.models, name), weights=None)
            found.append(Row(f"CONVERT-{name}-eval-{layout}", partial(_convert, make, 1, "eval", layout)))
    return found


def _convert(make: Callable[[], nn.Module], batch: int, what: str, layout: str) -> Workload:
    """Images of 224 x 224."""
    torch.manual_seed(0)
    x = torch.randn(batch, 3, 224, 224).contiguous(memory_format=LAYOUTS[layout])
    theirs = make().to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    theirs(torch.randn(4, 3, 224, 224))  # moves the running estimates
    theirs.train(what == "train")
    ours = copy.deepcopy(theirs)
    visionops.nn.convert(ours)
    call = step if what == "train" else infer
    return Workload(partial(call, ours, x), {"torch": partial(call, theirs, x)}, partial(_gate, call, ours, theirs, x))


def step(model: nn.Module, x: Tensor) -> Tensor:
    """The output of a training step; the gradients are in the parameters."""
    model.zero_grad()
    out: Tensor = model(x)
    out.square().mean().backward()  # type: ignore[no-untyped-call]
    return out.detach()


@torch.no_grad()
def infer(model: nn.Module, x: Tensor) -> Tensor:
    """The output alone."""
    return model(x)  # type: ignore[no-any-return]


def _gate(call: Any, ours: nn.Module, theirs: nn.Module, x: Tensor, result: Tensor) -> str:
    """Output and gradients of both networks."""
    pairs = [(result, call(theirs, x))]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=False):
        if b.grad is not None:
            assert a.grad is not None
            pairs.append((a.grad, b.grad))
    for got, wanted in pairs:
        assert (got - wanted).norm() <= TOLERANCE * wanted.norm()
    return f"torch's output{' and gradients' if len(pairs) > 1 else ''}"
