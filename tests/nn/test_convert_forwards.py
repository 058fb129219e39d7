"""convert where torch.fx does not see all that a forward does, and where others than the forward use its parts."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from networks import IMAGES, Net, ResNet18, assert_same, infer, wide
from visionops.nn import convert


def by_value(net: Net, x: Tensor) -> Tensor:
    return net.relu(net.bn(net.conv(x))) if x.sum() < 1e9 else x


def by_mode(net: Net, x: Tensor) -> Tensor:
    return net.relu(net.bn(net.conv(x))) if net.training else net.bn(net.conv(x))


def remembering(net: Net, x: Tensor) -> Tensor:
    net.seen = net.bn(net.conv(x))  # type: ignore[assignment]
    return net.relu(net.seen.clone())  # type: ignore[no-any-return]


def optional(net: Net, x: Tensor, other: Tensor | None = None) -> Tensor:
    if other is None:
        other = x[:, :1]
    return net.relu(net.bn(net.conv(x)) + other)


def of_a_kind(net: Net, x: Any) -> Tensor:
    x = [x] if isinstance(x, Tensor) else x
    return net.relu(net.bn(net.conv(torch.cat(x))))


def in_a_context(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.conv(x)
    return net.relu(net.bn(x))


def by_the_gradient(net: Net, x: Tensor) -> Tensor:
    return net.relu(net.bn(net.conv(x))) if torch.is_grad_enabled() else net.bn(net.conv(x))


def by_chance(net: Net, x: Tensor) -> Tensor:
    return net.conv(x) if random.random() < 0.2 else net.relu(net.bn(net.conv(x)))


def with_noise(net: Net, x: Tensor) -> Tensor:
    return net.relu(net.bn(net.conv(x))) + 0 * torch.rand(1, dtype=x.dtype)


def collecting(net: Net, x: Tensor) -> Tensor:
    seen = net.seen
    seen.append(x)
    return net.relu(net.bn(net.conv(x)))


def checkpointed(net: Net, x: Tensor) -> Tensor:
    return net.relu(net.bn(checkpoint(net.conv, x, use_reentrant=False)))


def by_another(net: Net, x: Tensor) -> Tensor:
    return by_chance(net, x)


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (by_value, "it depends on the input, in by_value: x.sum() < 1000000000.0"),
        (by_mode, "it depends on the input, in by_mode: net.training"),
        (remembering, "it writes what others see, in remembering: net.seen"),
        (optional, "it depends on the input, in optional: other is None"),
        (of_a_kind, "it depends on the input, in of_a_kind: isinstance(x, Tensor)"),
        (in_a_context, "torch.fx does not follow this, in in_a_context: with torch.no_grad():"),
        (by_the_gradient, "it depends on the input, in by_the_gradient: torch.is_grad_enabled()"),
        (by_chance, "it depends on the input, in by_chance: random.random() < 0.2"),
        (by_another, "it depends on the input, in by_chance: random.random() < 0.2"),
        (with_noise, "torch.fx does not follow this, in with_noise: torch.rand(1, dtype=x.dtype)"),
        (collecting, "it writes what others see, in collecting: seen.append(x)"),
        (checkpointed, "torch.fx does not follow this, in checkpointed: checkpoint(net.conv, x, use_reentrant=False)"),
        (
            lambda net, x: net.relu(net.bn(net.conv(x))[: int(x.shape[0])]),
            "torch.fx does not follow this, in <lambda>: ",
        ),
    ],
)
def test_a_forward_that_cannot_be_followed_stays(forward: Callable[..., Tensor], why: str) -> None:
    theirs = Net(forward)
    theirs.seen = []  # type: ignore[assignment]
    ours = copy.deepcopy(theirs)
    report = convert(ours)
    assert report.swapped == [("bn", "BatchNorm2d")]
    ((name, reason),) = report.left
    assert name == "the network"
    assert reason.startswith(f"Net: {why}")
    if forward is not by_chance and forward is not by_another:
        assert_same(ours, theirs, IMAGES)
        assert_same(ours.eval(), theirs.eval(), IMAGES)


def test_a_forward_that_depends_on_the_mode_stays() -> None:
    class ByMode(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.bn(self.conv(x))
            return x if self.training else self.relu(x)  # type: ignore[no-any-return]

    theirs = ByMode(wide)
    ours = copy.deepcopy(theirs)
    report = convert(ours)
    assert report.swapped == [("bn", "BatchNorm2d")]
    assert report.left == [("the network", "ByMode: its forward depends on the mode")]
    assert_same(ours.eval(), theirs.eval(), IMAGES)


@pytest.mark.parametrize("is_training", [False, True])
def test_saved_copied_and_taken_apart(is_training: bool) -> None:
    x = torch.randn(2, 3, 64, 64)
    theirs = ResNet18(width=4, classes=3)
    theirs(x)
    theirs.train(is_training)
    ours = copy.deepcopy(theirs)
    convert(ours)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for twin in (loaded, copy.copy(ours), copy.deepcopy(loaded), ours._replicate_for_data_parallel()):
        assert type(twin).forward is not ResNet18.forward
        torch.testing.assert_close(infer(twin, x), infer(theirs, x), rtol=1e-3, atol=1e-3)
    file.seek(0)
    moved = torch.load(file, weights_only=False)
    moved.fc = nn.Identity()
    theirs.fc = nn.Identity()
    torch.testing.assert_close(infer(moved, x), infer(theirs, x), rtol=1e-3, atol=1e-3)


def traced(network: nn.Module) -> fx.GraphModule:
    """By torch.fx; without annotations, for the words that they are in this file do not pickle."""
    graph = fx.symbolic_trace(network).graph
    for node in graph.nodes:
        node.type = None
    return fx.GraphModule(network, graph)


@pytest.mark.parametrize("is_training", [False, True])
def test_what_torch_fx_made_before(is_training: bool) -> None:
    network = ResNet18(width=4, classes=3)
    network(torch.randn(2, 3, 64, 64))
    theirs = traced(network).train(is_training)
    ours = traced(copy.deepcopy(network)).train(is_training)
    report = convert(ours)
    what = dict(report.swapped)
    assert what["bn1"] == ("BatchNorm2d with relu" if is_training else "into the convolution before it")
    assert what["layers.1.0.bn2"] == "BatchNorm2d with residual and relu"
    assert report.left == []
    x = torch.randn(2, 3, 64, 64)
    if is_training:
        assert_same(ours, theirs, x.double())
        ours, theirs = ours.float(), theirs.float()
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for twin in (ours, torch.load(file, weights_only=False), copy.deepcopy(ours)):
        torch.testing.assert_close(infer(twin, x), infer(theirs, x), rtol=1e-3, atol=1e-3)
    assert convert(ours).swapped == []


def test_a_sequential_may_be_sliced_and_grow() -> None:
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.SiLU()).eval()
    ours = copy.deepcopy(theirs)
    assert dict(convert(ours).swapped) == {
        "0": "Conv2d with silu",
        "2": "Conv2d with silu",
        "3": "into the convolution before it",
    }
    x = IMAGES.float()
    for end in (1, 2, 5):
        torch.testing.assert_close(infer(ours[:end], x), infer(theirs[:end], x), rtol=1e-4, atol=1e-5)
    for net in (ours, theirs):
        net.append(nn.Tanh())
    torch.testing.assert_close(infer(ours, x), infer(theirs, x), rtol=1e-4, atol=1e-5)


class Blocks(nn.Module):
    """Calls the parts of a block itself, as well as the block."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            raise ValueError("expected 3 channels")
        y = x
        for part in self.block:
            y = part(y)
        return y + self.block(x) + self.block[1](self.block[0](x))  # type: ignore[no-any-return]


def test_parts_that_others_call_are_what_they_were() -> None:
    theirs = Blocks()
    ours = copy.deepcopy(theirs)
    assert dict(convert(ours).swapped) == {"block.1": "BatchNorm2d with silu"}
    assert_same(ours, theirs, IMAGES)
    theirs = Blocks().eval()
    ours = copy.deepcopy(theirs)
    assert dict(convert(ours).swapped) == {"block.0": "Conv2d", "block.1": "BatchNorm2d with silu"}
    torch.testing.assert_close(infer(ours, IMAGES.float()), infer(theirs, IMAGES.float()), rtol=1e-4, atol=1e-5)


def test_a_convolution_whose_weight_is_read_keeps_it() -> None:
    theirs = Net(lambda net, x: F.relu(net.bn(net.conv(x))) + net.conv.weight.sum()).eval()
    ours = copy.deepcopy(theirs)
    assert dict(convert(ours).swapped) == {"conv": "Conv2d", "bn": "BatchNorm2d with relu"}
    torch.testing.assert_close(infer(ours, IMAGES.float()), infer(theirs, IMAGES.float()), rtol=1e-4, atol=1e-5)


def test_a_frozen_part_of_a_network_that_trains_is_not_folded() -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.BatchNorm2d(4), nn.ReLU())
    net[0].eval()
    keys, parameters = list(net.state_dict()), list(net.parameters())
    assert dict(convert(net).swapped) == {"0.1": "BatchNorm2d", "1": "BatchNorm2d with relu"}
    assert list(net.state_dict()) == keys
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    net.train()


def test_an_input_that_is_written_before_the_sum() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        before = net.conv(x)
        seen = before.view(before.shape)
        out = net.bn(seen)
        before.mul_(0)
        return net.relu(out + net.conv(x))  # type: ignore[no-any-return]

    theirs = Net(forward).eval()
    ours = copy.deepcopy(theirs)
    convert(ours)
    torch.testing.assert_close(infer(ours, IMAGES.float()), infer(theirs, IMAGES.float()), rtol=1e-4, atol=1e-5)


def test_hooks_of_later_see_what_they_would() -> None:
    theirs = Net(lambda net, x: net.relu(net.bn(net.conv(x)) + net.conv(x))).eval()
    nn.init.constant_(theirs.bn.weight, 3)
    ours = copy.deepcopy(theirs)
    convert(ours)
    seen: dict[nn.Module, list[Tensor]] = {}
    for net in (theirs, ours):
        for part in (net.conv, net.bn, net.relu):
            part.register_forward_hook(lambda module, args, output: seen.setdefault(module, []).append(output))
        infer(net, IMAGES.float())
    for name in ("conv", "bn", "relu"):
        expected, got = seen[getattr(theirs, name)], seen[getattr(ours, name)]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_parts_that_are_replaced_later() -> None:
    theirs = Net(lambda net, x: net.relu(net.bn(net.conv(x))) + net.relu(net.bn(net.conv(x)) + net.conv(x)))
    ours = copy.deepcopy(theirs)
    assert convert(ours).swapped == [("bn", "BatchNorm2d with residual and relu")]
    for net in (theirs, ours):
        net.relu = nn.ELU()  # type: ignore[assignment]
    assert_same(ours, theirs, IMAGES)
    for net in (theirs, ours):
        net.bn = nn.InstanceNorm2d(4)  # type: ignore[assignment]
    assert_same(ours, theirs, IMAGES)


def test_what_visionops_cannot_run_is_left() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, dtype=torch.complex64)).eval()
    assert convert(net).left == [("0", "Conv2d: its weight is torch.complex64")]
    assert net(torch.randn(1, 3, 5, 5, dtype=torch.complex64)).shape == (1, 4, 3, 3)
