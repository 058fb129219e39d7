"""convert on networks in plain torch: the same outputs and gradients, what it fuses, what it leaves and says."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import IMAGES, Block, Net, ResNet18, assert_same, outputs_and_gradients, wide
from visionops.nn import BatchNorm2d, Conv2d, convert


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_resnet_trains_as_before(layout: torch.memory_format) -> None:
    theirs = ResNet18(width=4, classes=5).to(memory_format=layout)
    ours = copy.deepcopy(theirs)
    parameters = list(ours.parameters())
    report = convert(ours)
    assert all(a is b for a, b in zip(parameters, ours.parameters(), strict=True))
    what = dict(report.swapped)
    assert len(what) == 21
    assert what["bn1"] == "BatchNorm2d with relu"
    assert what["layers.1.0.bn2"] == "BatchNorm2d with residual and relu"
    assert what["layers.1.0.downsample.1"] == "BatchNorm2d"
    assert what["maxpool"] == "MaxPool2d"
    assert report.left == []
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_same(ours, theirs, x.contiguous(memory_format=layout))
    assert_same(ours, theirs, x.contiguous(memory_format=layout))  # running estimates moved alike
    assert_same(copy.deepcopy(ours).eval(), theirs.eval(), x)


def test_a_resnet_infers_as_before() -> None:
    theirs = ResNet18(width=8, classes=5)
    theirs(torch.randn(4, 3, 64, 64))  # moves the running estimates
    ours = copy.deepcopy(theirs.eval())
    report = convert(ours)
    what = dict(report.swapped)
    assert what["bn1"] == "into the convolution before it"
    assert what["conv1"] == "Conv2d with relu"
    assert what["layers.1.0.downsample.0"] == "Conv2d"
    assert what["layers.1.0.downsample.1"] == "into the convolution before it"
    assert what["layers.1.0.bn2"] == "BatchNorm2d with residual and relu"
    assert len(what) == 20 + 20 + 1
    assert report.left == []
    assert isinstance(ours.bn1, nn.Identity)
    assert convert(ours).swapped == []  # nothing is left to do
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = theirs.double()(x)
    # With gradients, and without, where convolutions' results are overwritten; twice, for that must spare what stays.
    torch.testing.assert_close(ours.double()(x), expected, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(ours(x), expected, rtol=1e-6, atol=1e-6)


def test_what_infers_is_packed() -> None:
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3, 2), nn.Tanh()).eval()
    ours = copy.deepcopy(theirs)
    assert convert(ours).swapped == [("0", "Conv2d with relu6"), ("2", "Conv2d")]
    x = IMAGES.float()
    for twin in (ours, copy.deepcopy(ours)):
        assert all(module.packed for module in twin.modules() if isinstance(module, Conv2d))
        with torch.no_grad():
            torch.testing.assert_close(twin(x), theirs(x), rtol=1e-5, atol=1e-5)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"weight: changed after prepack\(\)"):
        ours(x)
    with pytest.raises(RuntimeError, match=r"train: .* call unpack\(\) first"):
        ours.train()
    # What trains, stays.
    trained = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert convert(trained).swapped == []
    assert type(trained[0]) is nn.Conv2d


def test_convolutions_that_stay_as_they_are() -> None:
    pruned = nn.Conv2d(3, 4, 3)
    pruned.register_forward_pre_hook(lambda module, args: None)
    around = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    theirs = nn.Sequential(pruned, around, nn.BatchNorm2d(4), nn.ReLU()).eval()
    ours = copy.deepcopy(theirs)
    report = convert(ours)
    assert report.swapped == [("2", "into the convolution before it")]
    assert report.left == [
        ("0", "Conv2d: a hook before it may change its weight"),
        ("1", "Conv2d: its padding mode is circular"),
    ]
    with torch.no_grad():
        torch.testing.assert_close(ours(IMAGES.float()), theirs(IMAGES.float()), rtol=1e-5, atol=1e-5)


def test_a_convolution_that_was_packed_before_keeps_what_it_does() -> None:
    packed = Conv2d(3, 4, 3).eval()
    packed.prepack()
    theirs = nn.Sequential(packed, nn.BatchNorm2d(4), nn.ReLU()).eval()
    ours = copy.deepcopy(theirs)
    assert convert(ours).swapped == [("1", "BatchNorm2d with relu")]
    with torch.no_grad():
        torch.testing.assert_close(ours(IMAGES.float()), theirs(IMAGES.float()), rtol=1e-5, atol=1e-5)


def test_inference_overwrites_only_what_a_convolution_made() -> None:
    kept: list[Tensor] = []
    forwards: list[Callable[[Net, Tensor], Tensor]] = [
        lambda net, x: net.relu(net.bn(net.conv(x)) + x[:, :1].expand(-1, 4, -1, -1)),
        lambda net, x: net.relu(net.bn(x.expand(-1, 4, -1, -1)) + net.conv(x.expand(-1, 3, -1, -1))),
        lambda net, x: net.relu(net.bn(net.conv(x)) + net.conv(x)),
    ]
    for i, forward in enumerate(forwards):
        theirs = Net(forward).eval()
        x = IMAGES.float()[:, : 1 if i == 1 else 3].clone()
        ours, before = copy.deepcopy(theirs), x.clone()
        convert(ours)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(x, before)
    hooked = Net(forwards[0]).eval()
    hooked.conv.register_forward_hook(lambda module, args, output: kept.append(output))
    convert(hooked)
    with torch.no_grad():
        hooked(IMAGES.float())
        torch.testing.assert_close(kept[0], wide(hooked, IMAGES.float()))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1)])
def test_pools_are_swapped_as_they_are(pool: nn.Module) -> None:
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), pool)
    ours = copy.deepcopy(theirs)
    assert convert(ours).swapped == [("1", type(pool).__name__)]
    assert type(ours[1]).__module__ == "visionops.nn.pool"
    assert_same(ours, theirs, IMAGES)


@pytest.mark.parametrize(
    ("forward", "activation", "calls"),
    [
        (lambda net, x: net.relu(net.bn(net.conv(x))), "relu", None),
        (lambda net, x: F.relu(net.bn(net.conv(x)), inplace=True), "relu", None),
        (lambda net, x: net.bn(net.conv(x)).relu_(), "relu", None),
        (lambda net, x: F.silu(net.bn(net.conv(x))), "silu", None),
        (lambda net, x: F.gelu(net.bn(net.conv(x))), "gelu", None),
        (lambda net, x: F.hardswish(net.bn(net.conv(x)) + net.conv(x)), "hardswish", "residual"),
        (lambda net, x: F.relu6(net.conv(x) + net.bn(net.conv(x))), "relu6", "residual"),
        (lambda net, x: torch.add(net.bn(net.conv(x)), net.conv(x)), None, "residual"),
        (lambda net, x: net.relu(net.bn(net.conv(x)).add_(net.conv(x))), "relu", "residual"),
        # Broadcast: the norm's own addition cannot, so the three steps are made apart.
        (lambda net, x: net.relu(net.bn(net.conv(x)) + net.conv(x).mean((2, 3), keepdim=True)), "relu", "residual"),
        (lambda net, x: net.relu(net.bn(net.conv(x)[:, :, :1, :1]) + net.conv(x)), "relu", "residual"),
    ],
)
def test_fuses(forward: Callable[[Net, Tensor], Tensor], activation: str | None, calls: str | None) -> None:
    theirs = Net(forward)
    ours = copy.deepcopy(theirs)
    parts = " and ".join(part for part in (calls, activation) if part)
    assert convert(ours).swapped == [("bn", f"BatchNorm2d with {parts}")]
    assert isinstance(ours.bn, BatchNorm2d)
    assert ours.bn.activation is None  # the forward does it, whoever else calls the norm has it as it was
    assert_same(ours, theirs, IMAGES)
    assert convert(ours).swapped == []  # nothing is left to do


def in_place_of_the_other(net: Net, x: Tensor) -> Tensor:
    other = net.conv(x)
    copied = other
    other += net.bn(net.conv(x))
    return copied * other  # type: ignore[no-any-return]


def input_changes_before_the_sum(net: Net, x: Tensor) -> Tensor:
    before = net.conv(x).clone()
    out = net.bn(before)
    after = before.detach().mul(2)
    return net.relu(out + after)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.bn(net.conv(x)),
        lambda net, x: net.bn(net.conv(x)).mul(2),
        lambda net, x: net.relu(net.bn(net.conv(x)) * 2),
        lambda net, x: net.bn(net.conv(x)) + 1,
        lambda net, x: F.gelu(net.bn(net.conv(x)), approximate="tanh"),
        lambda net, x: F.leaky_relu(net.bn(net.conv(x)), 0.2),
        lambda net, x: torch.add(net.bn(net.conv(x)), net.conv(x), alpha=2),
        in_place_of_the_other,
    ],
)
def test_fuses_nothing_that_would_change_the_result(forward: Callable[[Net, Tensor], Tensor]) -> None:
    theirs = Net(forward)
    ours = copy.deepcopy(theirs)
    assert convert(ours).swapped == [("bn", "BatchNorm2d")]
    assert_same(ours, theirs, IMAGES)


def test_uses_of_the_norms_output_and_input_elsewhere() -> None:
    def used_twice(net: Net, x: Tensor) -> Tensor:
        out = net.bn(net.conv(x))
        return net.relu(out.clone()) + out  # type: ignore[no-any-return]

    for forward in (used_twice, input_changes_before_the_sum):
        theirs = Net(forward)
        ours = copy.deepcopy(theirs)
        convert(ours)
        assert_same(ours, theirs, IMAGES)


def test_hooks_still_see_the_norm() -> None:
    net, seen = Net(lambda net, x: F.relu(net.bn(net.conv(x)))), []
    net.bn.register_forward_hook(lambda module, args, output: seen.append(output))
    assert convert(net).swapped == [("bn", "BatchNorm2d")]
    net(IMAGES.float())
    assert (seen[0] < 0).any()


def test_a_part_that_can_be_followed_is_converted() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(3, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x) if float(x.sum()) < 1e9 else x

    theirs = Outer()
    ours = copy.deepcopy(theirs)
    report = convert(ours)
    assert dict(report.swapped)["block.bn2"] == "BatchNorm2d with residual and relu"
    assert [name for name, _ in report.left] == ["the network"]
    assert_same(ours, theirs, IMAGES)


def test_says_what_it_leaves() -> None:
    class Own(nn.BatchNorm2d):
        pass

    net = nn.Sequential(Own(3), nn.SyncBatchNorm(3), nn.BatchNorm1d(3), nn.BatchNorm3d(3))
    assert str(convert(net)).splitlines() == [
        "left 0: Own: a class of its own may compute something else",
        "left 1: SyncBatchNorm: its statistics are of several processes",
        "left 2: BatchNorm1d: only (B, C, H, W) is normalised here",
        "left 3: BatchNorm3d: only (B, C, H, W) is normalised here",
    ]


def test_a_norm_alone_and_one_shared() -> None:
    alone = nn.BatchNorm2d(3)
    assert convert(alone).swapped == [("", "BatchNorm2d")]
    assert isinstance(alone, BatchNorm2d)
    shared = nn.BatchNorm2d(3)
    theirs = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared, nn.Tanh()))
    ours = copy.deepcopy(theirs)
    assert convert(ours).swapped == [("0", "BatchNorm2d with relu")]
    assert_same(ours, theirs, IMAGES)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's own, as it compiles a gradient
def test_converted_networks_copy_and_compile() -> None:
    net = ResNet18(width=4, classes=3)
    convert(net)
    x = torch.randn(2, 3, 64, 64)
    twin = copy.deepcopy(net)
    torch.testing.assert_close(twin(x), net(x))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert net(x).abs().sum() > 0  # the copy's forward is its own
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(x).square().mean().backward()
    gradients = [p.grad for p in net.parameters()]
    for got, wanted in zip(gradients, outputs_and_gradients(net, x)[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
