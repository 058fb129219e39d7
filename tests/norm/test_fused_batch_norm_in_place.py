"""fused_batch_norm_: the output and gradients of fused_batch_norm, over the input's own memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contract import DTYPES
from visionops import fused_batch_norm, fused_batch_norm_
from visionops.norm.cases import ACTIVATIONS
from visionops.testing import REBUILT


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_is_the_same_function(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.tuples(st.integers(2, 9), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12)))
    dtype, activation = draw(st.sampled_from(list(DTYPES.values()))), draw(st.sampled_from(ACTIVATIONS))
    layout = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    training, affine, zero = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def drawn(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(dtype)

    x, grad = (drawn(*shape).contiguous(memory_format=layout) for _ in range(2))
    residual = drawn(*shape) if draw(st.booleans()) else None
    weight = (drawn(shape[1]).abs() + 0.5) * drawn(shape[1]).sign() if affine else None
    if weight is not None and zero:
        weight[0] = 0  # the input cannot be rebuilt
    bias = drawn(shape[1]) if affine else None
    results = []
    for function in (fused_batch_norm, fused_batch_norm_):
        leaves = [None if t is None else t.clone().requires_grad_() for t in (x, weight, bias, residual)]
        estimates = drawn(0).new_zeros(shape[1]), drawn(0).new_ones(shape[1])
        a, w, b, r = leaves
        assert a is not None
        before = a * 1
        out = function(before, w, b, *estimates, training, residual=r, activation=activation)
        assert (out is before) == (function is fused_batch_norm_)
        gradients = torch.autograd.grad(out, [leaf for leaf in leaves if leaf is not None], grad)
        results.append([out.detach(), *estimates, *gradients])
    ours, theirs = results[1], results[0]
    for i, (got, wanted) in enumerate(zip(ours, theirs, strict=True)):
        if i < 3:
            assert torch.equal(got, wanted)
        else:
            scale = max(1.0, float(wanted.abs().max()))
            torch.testing.assert_close(got, wanted, rtol=0, atol=scale * REBUILT[str(dtype).removeprefix("torch.")])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("activation", [None, "leaky_relu"])
@pytest.mark.parametrize("training", [False, True])
def test_gradcheck(training: bool, activation: str | None, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 3, 2, generator=generator, dtype=torch.float64).contiguous(memory_format=layout)
    weight, bias = torch.tensor([0.5, -1, 2, 1]).double(), torch.tensor([1.0, 2, 3, -4]).double()
    estimates = (None, None) if training else (torch.zeros(4).double(), torch.ones(4).double())

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return fused_batch_norm_(x * 1, weight, bias, *estimates, training, activation=activation)

    assert torch.autograd.gradcheck(call, [t.requires_grad_() for t in (x, weight, bias)])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_far_from_zero_the_rebuilt_input_keeps_its_digits(layout: torch.memory_format) -> None:
    x = torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(0)) + 1e4
    gradients = []
    for dtype in (torch.float64, torch.float32):
        weight = torch.ones(3, dtype=dtype, requires_grad=True)
        out = fused_batch_norm_(x.to(dtype, memory_format=layout), weight, None, None, None, True)
        gradients.append(torch.autograd.grad(out.pow(3).sum(), weight)[0].double())
    # From x itself the float32 gradient would be off by the rounding of 1e4, 5e-4.
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=0)


def test_overwrites_and_counts_it() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = fused_batch_norm(x, None, None, None, None, True, activation="relu")
    for leaf in (False, True):
        y = x.clone().requires_grad_(leaf)
        before = y * 1 if leaf else y
        version = before._version
        assert fused_batch_norm_(before, None, None, None, None, True, activation="relu") is before
        assert torch.equal(before, expected)
        assert before._version > version


def test_the_input_as_its_own_residual() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    results = []
    for function in (fused_batch_norm, fused_batch_norm_):
        leaf = x.clone().requires_grad_()
        before = leaf * 1
        out = function(before, None, None, None, None, True, residual=before, activation="silu")
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaf)))
    torch.testing.assert_close(results[1], results[0])
    assert torch.equal(fused_batch_norm_(x, None, None, None, None, True, residual=x, activation="silu"), results[0][0])


def test_what_autograd_forbids_is_an_error() -> None:
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    before, estimates = x.detach().clone(), (torch.zeros(3), torch.ones(3))
    for leaf in (x, x.view(x.shape)):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            fused_batch_norm_(leaf, None, None, *estimates, True)
    assert torch.equal(x, before)
    assert estimates[0].tolist() == [0] * 3
    needed = x.sigmoid()
    out = fused_batch_norm_(needed, None, None, None, None, True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    with pytest.raises(RuntimeError, match="functorch"):
        torch.func.grad(lambda x: fused_batch_norm_(x * 1, None, None, None, None, True).sum())(x.detach())
    out = fused_batch_norm_(x * 1, None, None, None, None, True)
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises((NotImplementedError, RuntimeError), match="differentiated"):
        first.sum().backward()


def test_an_empty_batch() -> None:
    x, weight = torch.empty(0, 3, 4, 4, requires_grad=True), torch.ones(3, requires_grad=True)
    fused_batch_norm_(x * 1, weight, None, None, None, True, activation="leaky_relu").sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    assert weight.grad.tolist() == [0] * 3


def test_between_convolutions() -> None:
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 3)
    weight, bias = (torch.linspace(0.5, 1, 8).requires_grad_() for _ in range(2))
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))

    def gradients(function: Any) -> tuple[Tensor, ...]:
        out = second(function(first(x), weight, bias, None, None, True, activation="leaky_relu"))
        return torch.autograd.grad(out.square().mean(), [*first.parameters(), weight, bias, *second.parameters()])

    torch.testing.assert_close(gradients(fused_batch_norm_), gradients(fused_batch_norm), rtol=1e-3, atol=1e-5)


def test_compiles_without_gradient() -> None:
    def call(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return fused_batch_norm_(x * 2, None, None, mean, var, True, activation="relu") + 1

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = ([torch.zeros(3), torch.ones(3)] for _ in range(2))
    assert torch.equal(compiled(x, *ours), call(x, *theirs))
    assert torch.equal(ours[0], theirs[0])


def test_opcheck() -> None:
    x, values = torch.randn(2, 3, 4, 5), torch.ones(3)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    operations = torch.ops.visionops
    forward = (x, values, values, values, values, True, 0.1, 1e-5, x.clone(), 2, True)
    torch.library.opcheck(operations.fused_batch_norm_in_place_native.default, forward, test_utils=tests)
    bits = torch.zeros(2, 3, 3, dtype=torch.uint8)
    backward = (x, x, values, values, values, bits, True, 1e-5, 2, True)
    torch.library.opcheck(operations.fused_batch_norm_in_place_backward_native.default, backward, test_utils=tests)
