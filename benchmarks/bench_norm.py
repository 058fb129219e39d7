"""Rows of the norms: ResNet-50's maps of 16 images and small ones of one, with what follows; training and eval."""

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
from saved_bytes import saved_bytes
from visionops.norm import reference
from visionops.testing import compare

GATED_CHANNELS = 4
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


def rows() -> list[Row]:
    """The rows, and the least speed-up that we ask of each."""
    forward = {"NCHW": {"torch": 3.0, "torch.compile": 1.2}, "NHWC": {"torch": 2.5, "torch.compile": 1.2}}
    found = []
    for what in ("forward", "step", "eval"):
        for layout in LAYOUTS:
            asked = {"forward": forward[layout], "step": {"torch": 2.0, "torch.compile": 1.2}, "eval": {}}[what]
            make = partial(_norm, what, layout, 64, 56, residual=True)
            found.append(Row(f"BN-64@56-add-relu-{what}-{layout}", make, asked))
    for layout in LAYOUTS:
        make = partial(_norm, "step", layout, 64, 56, residual=False)
        found.append(Row(f"BN-64@56-relu-step-{layout}", make, {"torch": 2.0}))
    for channels, size in ((256, 56), (512, 28), (2048, 7)):
        for layout in LAYOUTS:
            make = partial(_norm, "step", layout, channels, size, residual=True)
            found.append(Row(f"BN-{channels}@{size}-add-relu-step-{layout}", make))
    for channels, size in ((576, 14), (960, 7)):
        for what in ("forward", "step"):
            for layout in LAYOUTS:
                make = partial(_norm, what, layout, channels, size, residual=False, batch=1)
                found.append(Row(f"BN-{channels}@{size}-N1-relu-{what}-{layout}", make))
    return found


def _norm(what: str, layout: str, channels: int, size: int, *, residual: bool, batch: int = 16) -> Workload:
    """A forward pass in training, with its backward pass ("step"), or in eval; the gradient is the output itself."""
    generator = torch.Generator().manual_seed(0)

    def image() -> Tensor:
        return torch.randn(batch, channels, size, size, generator=generator).contiguous(memory_format=LAYOUTS[layout])

    x, other = image().requires_grad_(what != "eval"), image() if residual else None
    theirs = torch.nn.BatchNorm2d(channels).train(what != "eval").requires_grad_(what != "eval")
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 1.5, generator=generator)
        theirs.bias.normal_(generator=generator)
    norm = visionops.nn.BatchNorm2d(channels, activation="relu").train(what != "eval").requires_grad_(what != "eval")
    norm.load_state_dict(theirs.state_dict())

    def ours(x: Tensor, other: Tensor | None) -> Tensor:
        return norm(x, other)  # type: ignore[no-any-return]

    def eager(x: Tensor, other: Tensor | None) -> Tensor:
        return F.relu(theirs(x) if other is None else theirs(x) + other)

    def call(function: Any, module: torch.nn.BatchNorm2d) -> Call:
        # Images of its own: nobody finds in a cache what somebody else has just read.
        own = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(what != "eval")
        beside = None if other is None else other.clone(memory_format=torch.preserve_format)

        def forward() -> Any:
            return function(own, beside)

        def step() -> list[Tensor]:
            out = forward()
            return list(torch.autograd.grad(out, (own, module.weight, module.bias), out.detach()))

        return step if what == "step" else forward

    torch.compiler.reset()
    peers = {"torch": call(eager, theirs), "torch.compile": call(torch.compile(eager, dynamic=False), theirs)}

    def gate(result: Any) -> str:
        said = _gate(theirs, x, other, result)
        if what != "step":
            return said
        saved = [saved_bytes(partial(function, x, other)) / 1e6 for function in (ours, eager)]
        return f"{said}; saves {saved[0]:.1f} MB for it, torch {saved[1]:.1f}"

    # Statistics come before the output, and sums before the gradient: each reads all that the other reads. Of what a
    # cache holds the second reading is quicker than this.
    streams = {"forward": 3, "step": 8, "eval": 2}[what] + residual
    return Workload(call(ours, norm), peers, gate, roofs.moves(streams * x.nbytes))


def _gate(module: torch.nn.BatchNorm2d, x: Tensor, other: Tensor | None, result: Any) -> str:
    """A few channels, spread over all, of the output or of the gradients."""
    some = np.unique(np.linspace(0, x.shape[1] - 1, GATED_CHANNELS, dtype=np.int64))
    image, residual, weight, bias = (
        None if t is None else t.detach()[(slice(None), some) if t.ndim == 4 else some].numpy()
        for t in (x, other, module.weight, module.bias)
    )
    assert image is not None
    arguments = image, weight, bias, np.zeros(len(some)), np.ones(len(some)), module.training
    options: dict[str, Any] = {"residual": residual, "activation": "relu"}
    out = reference.fused_batch_norm(*arguments, **options)
    if isinstance(result, list):
        expected = reference.fused_batch_norm_backward(out, *arguments, **options)
        for got, wanted in zip(result, expected, strict=False):
            part = got[some] if got.ndim == 1 else got[:, some]
            compare(part.double().numpy(), wanted, "float32", x.numel() // x.shape[1])
        return f"reference on gradients of {len(some)} of {x.shape[1]} channels"
    compare(result.detach()[:, some].double().numpy(), out, "float32", 4)
    return f"reference on {len(some)} of {x.shape[1]} channels"
