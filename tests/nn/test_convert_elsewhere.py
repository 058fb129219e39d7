"""convert where more than one forward counts: modules used elsewhere, written, patched, asked for their class."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import visionops.nn
from networks import IMAGES, Net, assert_same, infer
from visionops.nn import convert


def block(activation: nn.Module) -> nn.Sequential:
    """A convolution whose norm does something."""
    parts = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), activation)
    nn.init.constant_(parts[1].running_var, 9)  # type: ignore[arg-type]
    return parts


class Parts(nn.Module):
    """Calls a part of what it holds, in a way that torch.fx does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 100:
            raise ValueError("expected fewer images")
        return self.stem[0](x)  # type: ignore[no-any-return]


class Shared(nn.Module):
    """A convolution that others use too, with a norm of its own."""

    def __init__(self, conv: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn, self.activation = conv, nn.BatchNorm2d(3), activation
        nn.init.constant_(self.bn.running_var, 9)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))  # type: ignore[no-any-return]


def agree(ours: nn.Module, theirs: nn.Module, x: Tensor = IMAGES) -> None:
    torch.testing.assert_close(infer(ours, x.float()), infer(theirs, x.float()), rtol=1e-4, atol=1e-5)


def test_a_part_that_an_unread_forward_may_call_is_not_folded() -> None:
    theirs = Parts().eval()
    ours = copy.deepcopy(theirs)
    assert dict(convert(ours).swapped) == {"stem.0": "Conv2d", "stem.1": "BatchNorm2d with relu"}
    agree(ours, theirs)


def test_a_part_that_a_rewritten_forward_calls_is_not_folded() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    theirs = nn.Sequential(Shared(conv, nn.ReLU()), Shared(conv, nn.Tanh()))
    ours = copy.deepcopy(theirs)
    convert(ours)
    convert(ours.eval())
    agree(ours, theirs.eval())


def test_a_norm_that_a_rewritten_graph_reads_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.bn = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            nn.init.constant_(self.bn.running_var, 9)  # type: ignore[arg-type]

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.b(F.relu(self.bn(self.a(x)))))  # type: ignore[no-any-return]

    theirs = fx.symbolic_trace(Twice())
    ours = copy.deepcopy(theirs)
    convert(ours)
    convert(ours.eval())
    agree(ours, theirs.eval())


def test_a_network_may_ask_for_the_class_of_its_pools() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*block(nn.ReLU()), nn.MaxPool2d(2), nn.AvgPool2d(2))

        def forward(self, x: Tensor) -> Tensor:
            skips = []
            for layer in self.layers:
                if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
                    skips.append(x)
                x = layer(x)
            return torch.cat([skip.flatten(1) for skip in skips], 1)

    theirs = Encoder()
    ours = copy.deepcopy(theirs)
    convert(ours)
    assert_same(ours, theirs, IMAGES)
    assert_same(ours.eval(), theirs.eval(), IMAGES)


def test_pools_take_what_torchs_do() -> None:
    theirs = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2))
    ours = copy.deepcopy(theirs)
    convert(ours)
    x = torch.arange(128).reshape(2, 1, 8, 8)
    assert torch.equal(ours(x), theirs(x))
    odd = nn.Sequential(nn.MaxPool2d((2,)), nn.AvgPool2d([2]), nn.MaxPool2d(2, []))  # type: ignore[arg-type]
    assert [why for _, why in convert(odd).left] == [
        f"{kind}Pool2d: its sizes are not integers or pairs" for kind in ("Max", "Avg", "Max")
    ]


def late_write(net: Net, x: Tensor) -> Tensor:
    skip = net.conv(x) * 2
    y = net.bn(net.conv(x)) + skip
    gate = F.relu(skip, inplace=True)
    return F.relu(y) + gate


def late_module(net: Net, x: Tensor) -> Tensor:
    skip = net.conv(x) * 2
    y = net.bn(net.conv(x)) + skip
    return net.relu(skip) + F.relu(y)  # type: ignore[no-any-return]


def of_both(net: Net, x: Tensor) -> Tensor:
    return F.relu(net.bn(net.conv(3 * x + 5)) + net.bn(net.conv(x)))


def estimates_between(net: Net, x: Tensor) -> Tensor:
    mean, var = net.bn.running_mean, net.bn.running_var
    x = net.conv(x)
    return F.relu(net.bn(x * 1) + F.batch_norm(x, mean, var))


@pytest.mark.parametrize("forward", [late_write, late_module, of_both, estimates_between])
def test_what_a_norm_would_pass_by_when_it_moves(forward: Callable[[Net, Tensor], Tensor]) -> None:
    theirs = Net(forward)
    ours = copy.deepcopy(theirs)
    convert(ours)
    for _ in range(2):
        assert_same(ours, theirs, IMAGES)
    assert_same(ours.eval(), theirs.eval(), IMAGES)


def test_a_module_that_writes_its_input() -> None:
    class Doubles(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    def forward(net: Net, x: Tensor) -> Tensor:
        x = net.conv(x)
        y = net.bn(x.contiguous())
        return F.relu(y + net.relu(x))

    theirs = Net(forward)
    theirs.relu = Doubles()  # type: ignore[assignment]
    nn.init.constant_(theirs.bn.running_mean, 3)  # type: ignore[arg-type]
    ours = copy.deepcopy(theirs.eval())
    convert(ours)
    agree(ours, theirs)


def counting(net: Net, x: Tensor) -> Tensor:
    net.steps.add_(1)  # type: ignore[operator, union-attr]
    return net.relu(net.bn(net.conv(x)) * net.steps)  # type: ignore[no-any-return]


def averaging(net: Net, x: Tensor) -> Tensor:
    net.steps.mul_(0.9).add_(x.detach().mean(), alpha=0.1)  # type: ignore[operator, union-attr]
    return net.relu(net.bn(net.conv(x)) + net.steps)  # type: ignore[no-any-return]


@pytest.mark.parametrize("forward", [counting, averaging])
def test_buffers_are_read_and_written_at_each_call(forward: Callable[[Net, Tensor], Tensor]) -> None:
    theirs = Net(forward)
    theirs.register_buffer("steps", torch.zeros((), dtype=torch.float64))
    ours = copy.deepcopy(theirs)
    convert(ours)
    assert ours.steps == 0
    for _ in range(2):
        assert_same(ours, theirs, IMAGES)
    for net in (ours, theirs):
        net.steps.fill_(3)  # type: ignore[operator, union-attr]
    assert_same(ours, theirs, IMAGES)


class Warming(nn.Module):
    """Goes another way once its buffer says so."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.register_buffer("warm", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn(x))
        return y * 10 if self.warm else y


def test_a_way_that_a_buffer_decides() -> None:
    theirs = Warming()
    ours = copy.deepcopy(theirs)
    convert(ours)
    for net in (ours, theirs):
        net.warm.fill_(True)
    assert_same(ours, theirs, IMAGES)


def test_the_mode_of_a_part() -> None:
    theirs = Net(lambda net, x: F.dropout(F.relu(net.bn(net.conv(x))), 0.5, net.relu.training))
    ours = copy.deepcopy(theirs)
    assert convert(ours).left == [("the network", "Net: its forward depends on the mode")]
    assert_same(ours.eval(), theirs.eval(), IMAGES)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("is_training", [False, True])
def test_a_part_whose_forward_was_replaced(part: int, is_training: bool) -> None:
    theirs = block(nn.ReLU()).train(is_training)
    ours = copy.deepcopy(theirs)
    for net in (theirs, ours):
        net[part].forward = lambda x, forward=net[part].forward: forward(x) * 3
    convert(ours)
    agree(ours, theirs)


def test_hooks_of_all_modules_see_each() -> None:
    theirs = block(nn.ReLU())
    ours = copy.deepcopy(theirs)
    convert(ours)
    seen: dict[nn.Module, list[str]] = {}
    for net in (theirs, ours):
        names = seen.setdefault(net, [])
        hook = nn.modules.module.register_module_forward_hook(
            lambda module, args, out, names=names: names.append(type(module).__name__)  # type: ignore[misc]
        )
        net(IMAGES.float())
        hook.remove()
    assert seen[ours] == seen[theirs]


def augmented(net: Net, x: Tensor) -> Tensor:
    y = net.bn(net.conv(x))
    y += x[:, :1]
    return F.relu(y)


def added_in_place(net: Net, x: Tensor) -> Tensor:
    return F.relu(net.bn(net.conv(x)).add_(x[:, :1]))


@pytest.mark.parametrize("forward", [augmented, added_in_place])
def test_an_addition_in_place_keeps_the_dtype(forward: Callable[[Net, Tensor], Tensor]) -> None:
    theirs = Net(forward)
    ours = copy.deepcopy(theirs)
    convert(ours)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(IMAGES.float()).dtype == theirs(IMAGES.float()).dtype == torch.bfloat16


def test_a_list_of_modules_grows() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.BatchNorm2d(3)])

        def forward(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = F.relu(norm(x))
            return x

    theirs = Stack()
    ours = copy.deepcopy(theirs)
    assert convert(ours).swapped == [("norms.0", "BatchNorm2d with relu")]
    for net in (theirs, ours):
        net.norms.append(nn.Upsample(scale_factor=2))
    assert_same(ours, theirs, IMAGES)


def test_without_values_nothing_is_packed() -> None:
    net = block(nn.ReLU()).eval().to("meta")
    assert convert(net).swapped == [("1", "BatchNorm2d with relu")]
    assert net(IMAGES.float().to("meta")).shape == IMAGES.shape


def test_a_norm_that_never_fits_is_left_to_say_so() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)).eval()
    convert(net)
    with pytest.raises(ValueError, match="expected shape"):
        net(IMAGES.float())


class Reduced(nn.Module):
    """Says itself how it is copied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(x))

    def __reduce__(self) -> Any:
        return type(self), (self.bn.num_features,), self.__dict__


def test_a_module_that_says_itself_how_it_is_copied() -> None:
    ours = Reduced(3)
    convert(ours)
    assert_same(copy.deepcopy(ours), ours, IMAGES)


def test_what_is_no_module() -> None:
    with pytest.raises(TypeError, match=r"model: expected a .*Module, got int"):
        convert(3)  # type: ignore[arg-type]


def test_batches_are_counted_where_they_are_tracked() -> None:
    ours, theirs = visionops.nn.BatchNorm2d(3, momentum=None), nn.BatchNorm2d(3, momentum=None)
    for i, tracks in enumerate((True, False, True)):
        for norm in (ours, theirs):
            norm.track_running_stats = tracks
            norm(IMAGES.float() + i)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-5, atol=1e-6)
