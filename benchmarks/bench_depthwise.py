"""Rows of depthwise-separable blocks: three large ones, every layer of MobileNet V1 and V2, the whole of V2."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visionops
from benchmarks import roofs
from benchmarks.row import Row, Workload
from benchmarks.turns import Call
from mobilenet import MobileNetV2
from visionops.conv import reference
from visionops.testing import compare

# Channels, side, stride, filters.
BLOCKS = {"64@112s2-128": (64, 112, 2, 128), "128@56-128": (128, 56, 1, 128), "512@14-512": (512, 14, 1, 512)}
# The distinct ones of the tables in arXiv:1704.04861 and, without their expansions, arXiv:1801.04381.
V1 = [
    (32, 112, 1, 64),
    (64, 112, 2, 128),
    (128, 56, 1, 128),
    (128, 56, 2, 256),
    (256, 28, 1, 256),
    (256, 28, 2, 512),
    (512, 14, 1, 512),
    (512, 14, 2, 1024),
    (1024, 7, 1, 1024),
]
V2 = [
    (32, 112, 1, 16),
    (96, 112, 2, 24),
    (144, 56, 1, 24),
    (144, 56, 2, 32),
    (192, 28, 1, 32),
    (192, 28, 2, 64),
    (384, 14, 1, 64),
    (384, 14, 1, 96),
    (576, 14, 1, 96),
    (576, 14, 2, 160),
    (960, 7, 1, 160),
    (960, 7, 1, 320),
]

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


def rows() -> list[Row]:
    """The rows; what is asked, is asked of the blocks and of MobileNets' layers as families.

    Torch is asked as people write the block, its norms modules of their own, and again ("folded") with the norms folded
    into its convolutions as they are into ours.
    """
    found = []
    for name, shape in BLOCKS.items():
        make = partial(_block, 8, *shape)
        found.append(Row(f"DS-{name}", make, {"torch": 1.6, "torch.compile": 1.1}, family="DS"))
        found.append(Row(f"DS-{name}-folded", partial(make, folded=True), {"torch": 1.0}, family="DS-folded"))
    for network, layers in (("V1", V1), ("V2", V2)):
        for channels, side, stride, filters in layers:
            name = f"{network}-{channels}@{side}{'s2' if stride == 2 else ''}-{filters}"
            make = partial(_block, 1, channels, side, stride, filters, linear=network == "V2")
            found.append(Row(f"DS-{name}", make, {"torch": 1.4}, family="DS-MobileNet"))
    for batch in (1, 8):
        for layout in LAYOUTS:
            name = f"NET-MobileNetV2-{{}}-N{batch}-{layout}"
            found.append(Row(name.format("eval"), partial(_network_in_eval, batch, layout), {"torch": 1.4}))
            # Of one image autograd's own cost is most of a step; it is shown, and asked of training with batches.
            step = partial(_training_step, batch, layout)
            found.append(Row(name.format("step"), step, {"torch": 1.0} if batch > 1 else {}))
    return found


class Block(nn.Module):
    """The block in plain torch; a linear one has no activation at its end, and ReLU6 in its middle."""

    def __init__(self, channels: int, stride: int, filters: int, *, linear: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, filters, 1, bias=False)
        self.norms = nn.ModuleList([_norm(channels), _norm(filters)])
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """In eval mode, as people write it."""
        middle = self.norms[0](self.depthwise(x))
        middle = F.relu6(middle, inplace=True) if self.linear else F.relu_(middle)
        out = self.norms[1](self.pointwise(middle))
        return out if self.linear else F.relu_(out)


def _norm(channels: int) -> nn.BatchNorm2d:
    """A norm whose estimates and parameters do something."""
    generator = torch.Generator().manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    state = {name: torch.rand(channels, generator=generator) + 0.5 for name in ("weight", "running_var")}
    state |= {name: torch.randn(channels, generator=generator) for name in ("bias", "running_mean")}
    norm.load_state_dict(state | {"num_batches_tracked": torch.tensor(1)})
    return norm


def _folded(block: Block) -> Block:
    """A copy of a block in eval mode whose norms are folded into its convolutions."""
    copied = copy.deepcopy(block).requires_grad_(False)
    norms: Any = copied.norms
    copied.depthwise = nn.utils.fuse_conv_bn_eval(copied.depthwise, norms[0])
    copied.pointwise = nn.utils.fuse_conv_bn_eval(copied.pointwise, norms[1])
    copied.norms = nn.ModuleList([nn.Identity(), nn.Identity()])
    return copied


def _block(
    batch: int, channels: int, side: int, stride: int, filters: int, *, linear: bool = False, folded: bool = False
) -> Workload:
    """A block whose norms are folded, in eval mode, channels last."""
    generator = torch.Generator().manual_seed(channels + side)
    x = torch.randn(batch, channels, side, side, generator=generator).to(memory_format=torch.channels_last)
    eager = Block(channels, stride, filters, linear=linear).eval()
    eager.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    known = _folded(eager)
    first: Any = known.depthwise
    second: Any = known.pointwise
    ours = partial(
        visionops.depthwise_separable_conv2d,
        x,
        first.weight,
        second.weight,
        stride=stride,
        padding=1,
        depthwise_norm=(None, first.bias),
        depthwise_activation="relu6" if linear else "relu",
        pointwise_norm=(None, second.bias),
        pointwise_activation=None if linear else "relu",
    )

    def gate(result: Tensor) -> str:
        expected = reference.depthwise_separable_conv2d(
            x[:1].numpy(),
            first.weight.numpy(),
            second.weight.numpy(),
            stride=stride,
            padding=1,
            depthwise_norm=(np.ones(channels), first.bias.numpy()),
            depthwise_activation="relu6" if linear else "relu",
            pointwise_norm=(np.ones(filters), second.bias.numpy()),
            pointwise_activation=None if linear else "relu",
        )
        compare(result[:1].double().numpy(), expected, "float32", channels)
        return "reference on an image"

    peers = {"torch": _without_gradient(known if folded else eager, x)}
    if not folded:
        peers["torch.compile"] = _frozen(eager, x)
    macs = batch * (side // stride) ** 2 * channels * (9 + filters)
    return Workload(ours, peers, gate, roofs.multiplies(macs))


def _networks(batch: int, layout: str) -> tuple[MobileNetV2, MobileNetV2, Tensor]:
    """Ours and torch's with the same random weights, and images."""
    torch.manual_seed(0)
    ours, theirs = (MobileNetV2(plain=plain) for plain in (False, True))
    theirs.load_state_dict(ours.state_dict())
    for network in (ours, theirs):
        network.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    return ours, theirs, torch.randn(batch, 3, 224, 224).to(memory_format=LAYOUTS[layout])


def _network_in_eval(batch: int, layout: str) -> Workload:
    """A whole MobileNetV2, our blocks prepacked."""
    ours, theirs, x = _networks(batch, layout)
    for norm, same in zip(_norms(ours), _norms(theirs), strict=True):
        for module in (norm, same):
            module.load_state_dict(_norm(norm.num_features).state_dict())
    ours.eval().prepack()

    def gate(result: Tensor) -> str:
        with torch.no_grad():
            expected = copy.deepcopy(theirs).double()(x[:1].double())
        torch.testing.assert_close(result[:1].double(), expected, rtol=1e-3, atol=1e-3)
        return "torch in float64 on an image"

    return Workload(_without_gradient(ours, x), {"torch": _without_gradient(theirs.eval(), x)}, gate)


def _training_step(batch: int, layout: str) -> Workload:
    """A loss and its gradients by all weights."""
    ours, theirs, x = _networks(batch, layout)
    labels = torch.arange(batch)

    def step(network: MobileNetV2) -> Tensor:
        network.zero_grad()
        loss = F.cross_entropy(network(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def gate(result: Tensor) -> str:
        torch.testing.assert_close(result, step(copy.deepcopy(theirs)), rtol=1e-3, atol=1e-3)
        return "torch's loss; gradients in tests/conv/test_mobilenet.py"

    return Workload(partial(step, ours), {"torch": partial(step, theirs)}, gate)


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def _without_gradient(module: nn.Module, x: Tensor) -> Call:
    def call() -> Tensor:
        with torch.no_grad():
            return module(x)  # type: ignore[no-any-return]

    return call


def _frozen(module: nn.Module, x: Tensor) -> Call:
    """torch.compile at its best: for these sizes alone, with constant weights into which it folds the norms."""
    compiled: Callable[[Tensor], Tensor] | None = None

    def call() -> Tensor:
        nonlocal compiled
        with torch.no_grad():
            if compiled is None:
                torch.compiler.reset()
                compiled = torch.compile(module, dynamic=False, options={"freezing": True})
            return compiled(x)

    return call
