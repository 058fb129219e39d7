"""Prepacked convolution: Winograd's results are those of the sum over taps, and what is packed is never stale."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contract import Recorder
from visionops import _isa, _native, conv2d
from visionops._codes import ACTIVATIONS
from visionops.conv import reference
from visionops.nn import Conv2d
from visionops.testing import compare

OPS = torch.ops.visionops
X = torch.randn(2, 8, 9, 11, generator=torch.Generator().manual_seed(0))


def packed(*arguments: Any, **kwargs: Any) -> Conv2d:
    module = Conv2d(*arguments, **kwargs).eval().requires_grad_(False)
    module.prepack()
    return module


def ran(module: Conv2d, input: Tensor) -> list[str]:
    with Recorder() as recorder:
        module(input)
    return [operation.name() for operation, _ in recorder.calls]


@st.composite
def problems(draw: Any) -> tuple[Tensor, Tensor, Tensor | None, list[int], str | None]:
    """Inputs of either layout, with sizes around those of tiles and vectors, and four paddings."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    channels, filters = draw(st.sampled_from([1, 2, 7, 33, 300])), draw(st.sampled_from([1, 5, 13, 14, 15, 29, 43]))
    padding = draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))
    least = [max(1, 3 - padding[0] - padding[1]), max(1, 3 - padding[2] - padding[3])]
    size = [low + draw(st.integers(0, most)) for low, most in zip(least, (9, 70), strict=True)]
    x = torch.randn(draw(st.integers(0, 3)), channels, *size, generator=generator)
    if draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last)
    w = torch.randn(filters, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    bias = torch.randn(filters, generator=generator) if draw(st.booleans()) else None
    return x, w, bias, padding, draw(st.sampled_from([*ACTIVATIONS]))


@settings(deadline=None, max_examples=150)
@given(problems())
def test_winograds_results_are_within_the_table(
    problem: tuple[Tensor, Tensor, Tensor | None, list[int], str | None],
) -> None:
    x, w, bias, padding, activation = problem
    code = ACTIVATIONS[activation]
    out = OPS.conv2d_winograd_native(x, OPS.winograd_filters_native(w), bias, w.shape[0], padding, code)
    wide = (x.double(), w.double(), None if bias is None else bias.double())
    expected = OPS.conv2d_native(*wide, [1, 1], padding, [1, 1], 1, code)
    assert out.stride() == OPS.conv2d_native(x, w, bias, [1, 1], padding, [1, 1], 1, code).stride()
    compare(out.double().numpy(), expected.numpy(), "float32", 9 * w.shape[1] + 1)


@pytest.mark.parametrize("channels", [3, 64, 256, 257, 512])
def test_agreement_with_the_reference(channels: int) -> None:
    module = packed(channels, 20, 3, padding="same", activation="relu")
    x = torch.randn(1, channels, 13, 12)
    weight, bias = module.weight.numpy(), module.bias.numpy()
    expected = reference.conv2d(x.numpy(), weight, bias, 1, "same", activation="relu")
    compare(module(x).double().numpy(), expected, "float32", 9 * channels + 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_within_its_windows(value: float, layout: torch.memory_format) -> None:
    module = packed(8, 5, 3, padding=1)
    for y, x in ((0, 0), (3, 4), (4, 5), (8, 10)):
        image = X.clone(memory_format=layout)
        image[1, 3, y, x] = value
        meets = torch.zeros(2, 9, 11, dtype=torch.bool)
        meets[1, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
        assert torch.equal(~module(image).isfinite(), meets[:, None].expand(2, 5, 9, 11))


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    module, x = packed(64, 61, 3, padding=1), torch.randn(3, 64, 31, 29)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3, 4):
        torch.set_num_threads(count)
        results.append(module(x))
    torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("isa", _isa.NAMES[1 : _isa.NAMES.index(_native.isa()) + 1])
def test_every_instruction_set(isa: str) -> None:
    code = (
        "import torch; from visionops.nn import Conv2d; torch.manual_seed(0)\n"
        "m = Conv2d(37, 29, 3, padding=1).eval().requires_grad_(False); x = torch.randn(2, 37, 9, 23)\n"
        "for t in (x, x.to(memory_format=torch.channels_last)):\n"
        "    m.unpack(); a = m(t); m.prepack(); assert m.packed.filters is not None\n"
        "    torch.testing.assert_close(m(t), a, rtol=4e-5, atol=4e-5)"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"VISIONOPS_ISA": isa}, check=True)


def test_operators_are_registered_as_torch_expects() -> None:
    module = packed(8, 20, 3, padding=1)
    assert module.packed is not None
    arguments = (X, module.packed.filters, module.bias.clone(), 20, [1, 1, 1, 1], 1)
    torch.library.opcheck(OPS.conv2d_winograd_native.default, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((8, 6, 3), "winograd"),
        ((8, 6, 3, 1, "same"), "winograd"),
        ((8, 6, 3, 2), "aten"),
        ((8, 6, 3, 1, 0, 2), "aten"),
        ((8, 6, 3, 1, 0, 1, 2), "aten"),
        ((8, 6, 1), "native"),
        ((8, 6, (3, 1)), "aten"),
        ((600, 6, 3), "aten"),
    ],
)
def test_which_operation_ran(arguments: Any, name: str) -> None:
    module = packed(*arguments)
    x = torch.randn(2, arguments[0], 9, 11)
    expected = "visionops::conv2d_winograd_native" if name == "winograd" else f"visionops::conv2d_{name}"
    assert ran(module, x) == [expected]
    before = module(x)
    module.unpack()
    assert "winograd" not in ran(module, x)[0]
    torch.testing.assert_close(before, module(x), rtol=1e-4, atol=1e-4)


def test_the_state_dict_is_torchs() -> None:
    module = packed(8, 6, 3)
    assert list(module.state_dict()) == ["weight", "bias"]
    torch.nn.Conv2d(8, 6, 3).load_state_dict(module.state_dict())


CHANGES = {
    "step": lambda module: torch.optim.SGD([module.weight.requires_grad_()], 0.1).step(),
    "in-place": lambda module: module.weight.mul_(2),
    "load": lambda module: module.load_state_dict(torch.nn.Conv2d(8, 6, 3).state_dict()),
    "replace": lambda module: setattr(module, "weight", torch.nn.Parameter(module.weight.clone())),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_weight_that_changed_raises_until_it_is_packed_again(change: str) -> None:
    module = packed(8, 6, 3)
    module.weight.grad = torch.ones_like(module.weight)
    with torch.no_grad():
        CHANGES[change](module)
    with pytest.raises(RuntimeError, match=r"weight: changed after prepack\(\), call it again, or unpack\(\)"):
        module(X)
    module.prepack()
    torch.testing.assert_close(module(X), conv2d(X, module.weight, module.bias), rtol=1e-4, atol=1e-4)


def test_a_bias_may_change() -> None:
    module = packed(8, 6, 3)
    module.bias.add_(1)
    torch.testing.assert_close(module(X), conv2d(X, module.weight, module.bias), rtol=1e-4, atol=1e-4)


def test_packed_modules_do_not_train() -> None:
    module = Conv2d(8, 6, 3)
    with pytest.raises(RuntimeError, match="prepack: expected a module in eval mode, got one in training mode"):
        module.prepack()
    module.eval().prepack()
    with pytest.raises(RuntimeError, match=r"train: expected a module that is not packed, call unpack\(\) first"):
        torch.nn.Sequential(module).train()
    module.unpack()
    module.train()


def test_gradients_are_those_of_conv2d() -> None:
    module = packed(8, 6, 3).requires_grad_()
    x = X.clone().requires_grad_()
    module(x).square().sum().backward()
    found = [t.grad for t in (x, module.weight, module.bias)]
    leaves = [t.detach().requires_grad_() for t in (x, module.weight, module.bias)]
    conv2d(*leaves).square().sum().backward()
    for ours, leaf in zip(found, leaves, strict=True):
        torch.testing.assert_close(ours, leaf.grad)


def test_copies_are_packed_for_themselves() -> None:
    module = packed(8, 6, 3)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(X), module(X))
        assert ran(other, X) == ["visionops::conv2d_winograd_native"]
        other.weight.zero_()
        with pytest.raises(RuntimeError, match="weight: changed after prepack"):
            other(X)
        assert module(X).any()


def test_a_module_that_was_moved_computes_as_if_it_were_not_packed() -> None:
    module = packed(8, 6, 3).double()
    x = X.double()
    torch.testing.assert_close(module(x), conv2d(x, module.weight, module.bias))
    with pytest.raises(TypeError, match=r"weight: expected dtype torch.float32 as input, got torch.float64"):
        module(X)


def test_filters_are_transformed_again_from_weights_that_were_converted() -> None:
    module = packed(8, 6, 3)
    module.half().float()
    with torch.no_grad():
        torch.testing.assert_close(module(X), conv2d(X, module.weight, module.bias), rtol=1e-5, atol=1e-5)
        module.weight.zero_()
        module.double()
        with pytest.raises(RuntimeError, match="weight: changed after prepack"):
            module(X.double())


def test_errors_are_those_of_conv2d() -> None:
    module = packed(8, 6, 3)
    with pytest.raises(ValueError, match=r"weight: expected shape .* with C=7 and groups=1"):
        module(X[:, :7])
    with pytest.raises(ValueError, match="kernel_size: expected one that fits into the padded image, 2x11"):
        module(X[:, :, :2])
    assert torch.equal(module(X[0]), conv2d(X[0], module.weight, module.bias))


def test_a_traced_graph_has_the_weight() -> None:
    module = packed(8, 6, 3)
    exported = torch.export.export(module, (X,))
    calls = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert calls == ["visionops.conv2d_aten.default"]
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), module(X), rtol=1e-4, atol=1e-4)
    module.weight.mul_(2)
    torch.testing.assert_close(compiled(X), conv2d(X, module.weight, module.bias), rtol=1e-4, atol=1e-4)
