"""The modules of room `conv`: torch's state_dict and results, folding, and packed weights that cannot become stale."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from visionops.nn import Conv2d, DepthwiseSeparableConv2d, InvertedResidual, PointwiseConv2d

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def _trained(module: nn.Module) -> nn.Module:
    """The module with norms that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return module


@pytest.mark.parametrize("layout", LAYOUTS)
def test_conv2d_takes_torchs_arguments_and_state(layout: torch.memory_format) -> None:
    arguments = (4, 6, (3, 2), 2, (1, 0), 1, 2)
    theirs, ours = nn.Conv2d(*arguments), Conv2d(*arguments, activation="relu")
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 9, 8).to(memory_format=layout)
    torch.testing.assert_close(ours(x), theirs(x).relu(), rtol=1e-5, atol=1e-5)
    assert "activation='relu'" in repr(ours)


def test_conv2d_learns() -> None:
    theirs, ours = nn.Conv2d(3, 5, 3), Conv2d(3, 5, 3)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 6, 7)
    for module in (theirs, ours):
        module(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)


def test_conv2d_refuses_what_it_does_not_do() -> None:
    with pytest.raises(ValueError, match="padding_mode: expected one of 'zeros', got 'reflect'"):
        Conv2d(3, 4, 3, padding_mode="reflect")
    with pytest.raises(ValueError, match="activation: expected one of"):
        Conv2d(3, 4, 3, activation="tanh")
    with pytest.raises(ValueError, match="kernel_size: expected odd sizes, got 2"):
        DepthwiseSeparableConv2d(3, 4, 2)


MODULES = [
    PointwiseConv2d(5, 7),
    DepthwiseSeparableConv2d(5, 7, 3, 2, depthwise_activation="hardswish"),
    DepthwiseSeparableConv2d(5, 7, (5, 3), 1, 2, pointwise_activation=None),
    InvertedResidual(5, 5),
    InvertedResidual(5, 7, 2, 1),
]


def _eager(module: nn.Module, x: Tensor) -> Tensor:
    """The module in eval mode, layer by layer of torch's."""
    names = {"hardswish": nn.functional.hardswish, "relu": torch.relu, "relu6": nn.functional.relu6, None: lambda x: x}

    def layer(conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: str | None, x: Tensor) -> Tensor:
        return names[activation](nn.BatchNorm2d.forward(norm, nn.Conv2d.forward(conv, x)))

    if isinstance(module, PointwiseConv2d):
        return layer(module.conv, module.norm, module.activation, x)
    if isinstance(module, DepthwiseSeparableConv2d):
        middle = layer(module.depthwise, module.depthwise_norm, module.depthwise_activation, x)
        return layer(module.pointwise, module.pointwise_norm, module.pointwise_activation, middle)
    assert isinstance(module, InvertedResidual)
    out = _eager(module.separable, x if module.expand is None else _eager(module.expand, x))
    return x + out if module.adds else out


# The forward of nn.Conv2d or nn.BatchNorm2d on a visionops module is torch's.
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_eval_mode_is_torchs_layer_by_layer(module: nn.Module, layout: torch.memory_format) -> None:
    module = _trained(copy.deepcopy(module)).eval()
    x = torch.randn(2, 5, 9, 8).to(memory_format=layout)
    expected = _eager(module, x)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)
    before = module.state_dict()
    module.prepack()
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)
    assert list(module.state_dict()) == list(before)
    module.unpack()
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("adds", [False, True])
def test_images_at_once_make_no_difference(
    layout: torch.memory_format, adds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = _trained(InvertedResidual(5, 5, 1 if adds else 2)).eval()
    x = torch.randn(7, 5, 6, 8).to(memory_format=layout)
    expected = _eager(module, x)
    calls: list[int] = []
    module.separable.register_forward_hook(lambda *_: calls.append(1))
    for images, parts in ((1, 7), (3, 3), (7, 1)):
        monkeypatch.setattr("visionops.nn.conv._MIDDLE_IN_CACHE", images * 30 * 6 * 8 * 4)
        calls.clear()
        with torch.no_grad():
            result = module(x)
        assert len(calls) == parts
        assert result.is_contiguous(memory_format=layout)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("visionops.nn.conv._MIDDLE_IN_CACHE", 1)
    with torch.no_grad():
        assert module(x[:0]).shape == (0, *expected.shape[1:])
        torch.testing.assert_close(module(x[0]), expected[0], rtol=1e-4, atol=1e-4)
    assert module(x).requires_grad


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_training_is_torchs_layer_by_layer(module: nn.Module) -> None:
    ours, theirs = _trained(copy.deepcopy(module)).train(), None
    theirs = copy.deepcopy(ours)
    x = torch.randn(4, 5, 9, 8)
    results = ours(x), _eager(theirs, x)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    for result in results:
        result.square().sum().backward()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3, msg=name)


def test_what_is_packed_cannot_become_stale() -> None:
    module = DepthwiseSeparableConv2d(3, 4)
    with pytest.raises(RuntimeError, match="prepack: expected a module in eval mode"):
        module.prepack()
    module.eval().prepack()
    with pytest.raises(RuntimeError, match=r"train: expected a module that is not packed, call unpack\(\) first"):
        nn.Sequential(module).train()
    with pytest.raises(RuntimeError, match=r"load_state_dict: .* call unpack\(\) first"):
        module.load_state_dict(module.state_dict())
    module.double()
    assert module(torch.ones(1, 3, 4, 4, dtype=torch.float64)).dtype == torch.float64
    module.unpack()
    module.load_state_dict(module.state_dict())
    module.train()


CHANGES = {
    "step": lambda block: torch.optim.SGD(block.parameters(), 0.1).step(),
    "weight": lambda block: block.pointwise.weight.mul_(2),
    "bias": lambda block: block.pointwise_norm.bias.add_(1),
    "running_mean": lambda block: block.depthwise_norm.running_mean.add_(1),
    "running_var": lambda block: block.depthwise_norm.running_var.mul_(2),
    "load": lambda block: block.pointwise.load_state_dict({"weight": torch.ones(4, 3, 1, 1)}),
    "replaced": lambda block: setattr(block.depthwise, "weight", nn.Parameter(torch.ones(3, 1, 3, 3))),
    "assigned": lambda block: block.pointwise.load_state_dict({"weight": torch.ones(4, 3, 1, 1)}, assign=True),
    "module": lambda block: setattr(block, "pointwise", Conv2d(3, 4, 1, bias=False)),
    "part moved": lambda block: block.pointwise_norm.double(),
}


def test_a_weight_that_is_made_of_others_and_changed_raises() -> None:
    module = PointwiseConv2d(4, 8).eval()
    nn.utils.parametrizations.weight_norm(module.conv)
    module.prepack()
    with torch.no_grad():
        module(torch.ones(1, 4, 2, 2))
        module.conv.parametrizations.weight.original0.mul_(3)  # type: ignore[union-attr, operator]
    with pytest.raises(RuntimeError, match=r"weights: changed after prepack\(\)"):
        module(torch.ones(1, 4, 2, 2))


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_folded_and_changed_raises_until_it_is_packed_again(change: str) -> None:
    block, x = _trained(DepthwiseSeparableConv2d(3, 4)).eval(), torch.randn(1, 3, 4, 4)
    block(x).sum().backward()
    block.prepack()
    copied, before = copy.deepcopy(block), block(x)
    with torch.no_grad():
        CHANGES[change](block)
    stale = copy.deepcopy(block), pickle.loads(pickle.dumps(block))
    for other in (block, *stale, block.to(memory_format=torch.channels_last), block.float()):
        with pytest.raises(RuntimeError, match=r"weights: changed after prepack\(\), call it again, or unpack\(\)"):
            other(x)
    assert torch.equal(copied(x), before)
    block.prepack()
    packed = block(x)
    block.unpack()
    torch.testing.assert_close(packed, block(x))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_copied_and_moved_modules_stay_packed(module: nn.Module) -> None:
    module, x = _trained(copy.deepcopy(module)).eval(), torch.randn(1, 5, 9, 8)
    module.prepack()
    expected = module(x)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        for moved in (other, other.to(memory_format=torch.channels_last), other.double()):
            result = moved(x.to(next(moved.parameters()).dtype))
            torch.testing.assert_close(result.float(), expected, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(2)
        with pytest.raises(RuntimeError, match="weights: changed after prepack"):
            other(x.double())
    with torch.inference_mode():
        made_there = copy.deepcopy(module)
        made_there.prepack()
        torch.testing.assert_close(made_there(x), expected)
        torch.testing.assert_close(made_there.double()(x.double()).float(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(module(x), expected)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's own, as it compiles a gradient
def test_a_traced_graph_folds() -> None:
    module, x = _trained(PointwiseConv2d(5, 7)).eval(), torch.randn(1, 5, 9, 8)
    module.prepack()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))
    with torch.no_grad():
        module.conv.weight.mul_(2)
    packed = compiled(x)
    module.unpack()
    torch.testing.assert_close(packed, module(x))
