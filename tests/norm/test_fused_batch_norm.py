"""fused_batch_norm beyond agreement with its reference: gradients, layouts, running estimates and digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from contract import DTYPES, to_numpy
from visionops import fused_batch_norm
from visionops.norm import reference
from visionops.norm.cases import ACTIVATIONS
from visionops.testing import compare


def _drawn(draw: st.DataObject) -> tuple[dict[str, Any], list[np.ndarray[Any, Any] | None], dict[str, Any]]:
    """Options for tensors, arrays for input, weight, bias, residual and grad, and the call's plain arguments."""
    shape = draw.draw(st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12)))
    shape = (max(shape[0], 2), *shape[1:])
    rng = np.random.default_rng(draw.draw(st.integers(0, 99)))
    affine, residual = draw.draw(st.booleans()), draw.draw(st.booleans())
    arrays = [
        rng.normal(rng.normal(size=(shape[1], 1, 1)), 2, size=shape),
        rng.normal(size=shape[1]) if affine else None,
        rng.normal(size=shape[1]) if affine else None,
        rng.normal(size=shape) if residual else None,
        rng.normal(size=shape),
    ]
    plain = {"activation": draw.draw(st.sampled_from(ACTIVATIONS)), "eps": draw.draw(st.sampled_from([1e-5, 0.1]))}
    where = {
        "dtype": draw.draw(st.sampled_from(list(DTYPES))),
        "channels_last": draw.draw(st.booleans()),
        "training": draw.draw(st.booleans()),
        "wide": draw.draw(st.booleans()),
    }
    return where, arrays, plain


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_values_and_gradients_are_the_references(draw: st.DataObject) -> None:
    where, (input, weight, bias, residual, grad), plain = _drawn(draw)
    assert input is not None
    # Where a channel's few values hardly differ, their own rounding shows in the gradient, whoever computes it.
    assume(input.std((0, 2, 3)).min() > 0.1)
    dtype = DTYPES[where["dtype"]]
    narrow = dtype in (torch.float16, torch.bfloat16)
    layout = torch.channels_last if where["channels_last"] else torch.contiguous_format

    def tensor(array: Any, dtype: torch.dtype) -> Any:
        if array is None:
            return None
        value = torch.from_numpy(array).to(dtype)
        return value.contiguous(memory_format=layout) if array.ndim == 4 else value

    of_channels = torch.float32 if narrow and where["wide"] else dtype
    x, r, g = (tensor(a, dtype) for a in (input, residual, grad))
    w, b = (tensor(a, of_channels) for a in (weight, bias))
    channels = x.shape[1]
    mean, var = torch.linspace(-1, 1, channels).to(of_channels), torch.linspace(0.5, 2, channels).to(of_channels)
    statistics = (None, None) if where["training"] else (mean, var)
    leaves = [t for t in (x, w, b, r) if t is not None]
    for leaf in leaves:
        leaf.requires_grad_()
    out = fused_batch_norm(x, w, b, *statistics, where["training"], residual=r, **plain)
    assert out.is_contiguous(memory_format=layout) or out.is_contiguous()
    gradients = dict(zip(map(id, leaves), torch.autograd.grad(out, leaves, g), strict=True))

    arrays = [None if t is None else to_numpy(t) for t in (x, w, b, *statistics)]
    options = {"residual": None if r is None else to_numpy(r), **plain}
    expected = reference.fused_batch_norm(*arrays, where["training"], **options)
    compare(to_numpy(out).astype(np.float64), expected, where["dtype"], 16)
    wanted = reference.fused_batch_norm_backward(to_numpy(g), *arrays, where["training"], **options)
    terms = x.numel() // channels
    for leaf, value in zip((x, w, b, r), wanted, strict=True):
        if leaf is not None:
            assert gradients[id(leaf)].dtype == leaf.dtype
            name = str(leaf.dtype).removeprefix("torch.")
            # 16-bit values are summed in float32; where a gradient's size is its slope's, rounding may cross a kink.
            compare(to_numpy(gradients[id(leaf)]).astype(np.float64), value, name, 16 * terms)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradcheck(training: bool, activation: str | None, with_residual: bool, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = (drawn(3, 4, 3, 2) * 2 + 1).contiguous(memory_format=layout).requires_grad_()
    weight, bias, mean, var = (drawn(4) for _ in range(4))
    inputs = [x, weight.requires_grad_(), bias.requires_grad_()]
    if with_residual:
        inputs.append(drawn(3, 4, 3, 2).contiguous(memory_format=layout).requires_grad_())

    def call(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None = None) -> Tensor:
        estimates = (None, None) if training else (mean, var.abs() + 0.1)
        return fused_batch_norm(x, weight, bias, *estimates, training, residual=residual, activation=activation)

    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("estimates", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
def test_running_estimates_move_in_place(momentum: float, estimates: torch.dtype) -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    mean, var = torch.linspace(-1, 1, 3, dtype=estimates), torch.linspace(1, 2, 3, dtype=estimates)
    expected = reference.moved_estimates(x.numpy(), mean.numpy(), var.numpy(), momentum)
    versions = mean._version, var._version
    fused_batch_norm(x.requires_grad_(), None, None, mean, var, True, momentum)
    for actual, wanted in zip((mean, var), expected, strict=True):
        assert not actual.requires_grad
        # The statistics are of an image in float32.
        compare(actual.double().numpy(), wanted, "float16" if estimates == torch.float16 else "float32")
    assert mean._version > versions[0]
    assert var._version > versions[1]


def test_an_empty_batch_moves_nothing_and_has_gradients() -> None:
    mean, var, weight = torch.ones(3), torch.full((3,), 2.0), torch.ones(3, requires_grad=True)
    x = torch.empty(0, 3, 4, 4, requires_grad=True)
    fused_batch_norm(x, weight, None, mean, var, True, residual=x, activation="relu").sum().backward()
    assert mean.tolist() == [1] * 3
    assert var.tolist() == [2] * 3
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert weight.grad is not None
    assert weight.grad.tolist() == [0] * 3


def variance(x: Tensor, layout: torch.memory_format) -> np.ndarray[Any, Any]:
    """The batch's, as a running estimate in float64 receives it; unbiased."""
    estimates = torch.zeros(x.shape[1], dtype=torch.float64), torch.zeros(x.shape[1], dtype=torch.float64)
    fused_batch_norm(x.contiguous(memory_format=layout), None, None, *estimates, True, 1.0)
    return estimates[1].numpy()


def exact_variance(x: Tensor) -> np.ndarray[Any, Any]:
    count = x.numel() // x.shape[1]
    return reference.batch_statistics(x.numpy())[1] * count / (count - 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 1, 1000, 1000), (4, 4, 250, 250), (40_000, 2, 5, 5)])
def test_variance_far_from_zero_keeps_its_digits(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(1e4, 1, size=shape).astype(np.float32))
    np.testing.assert_allclose(variance(x, layout), exact_variance(x), rtol=1e-6)
    # The output too: eager torch is off by 5e-4 here, the rounding of 1e4.
    out = fused_batch_norm(x.contiguous(memory_format=layout), None, None, None, None, True)
    compare(out.double().numpy(), reference.fused_batch_norm(x.numpy(), None, None, None, None, True), "float32", 4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_unlike_beginning_costs_few_digits(layout: torch.memory_format) -> None:
    # The sums of each item are taken around the mean of its first values.
    x = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) + 1e4
    x[0, :, 0, :4] = 0
    np.testing.assert_allclose(variance(x, layout), exact_variance(x), rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(8, 32, 40, 40), (2, 3, 120, 120), (64, 600, 3, 3)])
def test_same_at_any_number_of_threads(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x, residual, grad = (torch.randn(shape, generator=generator).contiguous(memory_format=layout) for _ in range(3))
    weight, bias = (torch.randn(shape[1], generator=generator).requires_grad_() for _ in range(2))
    leaves = (x.requires_grad_(), weight, bias, residual.requires_grad_())
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4, 7):
            torch.set_num_threads(count)
            out = fused_batch_norm(x, weight, bias, None, None, True, residual=residual, activation="relu")
            results.append((out, *torch.autograd.grad(out, leaves, grad)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_large_results_are_those_of_their_parts(dtype: torch.dtype, layout: torch.memory_format) -> None:
    # Of many items, taken by threads of which each begins elsewhere.
    generator = torch.Generator().manual_seed(0)
    x, residual, grad = (
        torch.randn(12, 20, 97, 93, generator=generator).to(dtype).contiguous(memory_format=layout) for _ in range(3)
    )
    mean, var = torch.linspace(-1, 1, 20), torch.linspace(0.5, 2, 20)

    def call(part: slice) -> tuple[Tensor, ...]:
        leaves = [t[part].clone(memory_format=layout).requires_grad_() for t in (x, residual)]
        out = fused_batch_norm(leaves[0], None, None, mean, var, residual=leaves[1], activation="leaky_relu")
        return out, *torch.autograd.grad(out, leaves, grad[part])

    whole = call(slice(0, 12))
    for first in range(0, 12, 4):
        part = slice(first, first + 4)
        for got, wanted in zip(call(part), whole, strict=True):
            assert torch.equal(got, wanted[part])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_infinite_gradients_stop_at_a_flat_slope(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = torch.full((2, 20, 3, 3), -1.0, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    out = fused_batch_norm(x, None, None, torch.zeros(20), torch.ones(20), activation="relu")
    (gradient,) = torch.autograd.grad(out, x, torch.full_like(x, torch.inf))
    assert (gradient == 0).all()


def test_residual_and_gradient_in_another_layout() -> None:
    generator = torch.Generator().manual_seed(0)
    x, residual, grad = (torch.randn(2, 5, 4, 3, generator=generator) for _ in range(3))
    expected, results = None, []
    for layouts in ("ccc", "lcc", "clc", "lcl", "lll"):
        formats = [torch.channels_last if name == "l" else torch.contiguous_format for name in layouts]
        a, r, g = (t.clone(memory_format=f) for t, f in zip((x, residual, grad), formats, strict=True))
        out = fused_batch_norm(a.requires_grad_(), None, None, None, None, True, residual=r, activation="silu")
        results.append((out, *torch.autograd.grad(out, a, g)))
        assert out.stride() == a.stride()
    expected = results[0]
    for got in results[1:]:
        torch.testing.assert_close(got, expected)


def test_functorch_in_eval_and_with_a_residual() -> None:
    generator = torch.Generator().manual_seed(0)
    x, residual = (torch.randn(3, 2, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    mean, var = torch.zeros(4), torch.ones(4)
    for training in (True, False):
        for layout in (torch.contiguous_format, torch.channels_last):

            def call(x: Tensor, residual: Tensor, training: bool = training) -> Tensor:
                estimates = (None, None) if training else (mean, var)
                return fused_batch_norm(x, None, None, *estimates, training, residual=residual, activation="relu")

            images = [t.clone(memory_format=layout) for t in x], [t.clone(memory_format=layout) for t in residual]
            single = [
                torch.func.grad(lambda a, b: call(a, b).square().sum(), (0, 1))(a, b)
                for a, b in zip(*images, strict=True)
            ]
            mapped = torch.func.vmap(torch.func.grad(lambda a, b: call(a, b).square().sum(), (0, 1)))(x, residual)
            for i in range(2):
                torch.testing.assert_close(mapped[i], torch.stack([each[i] for each in single]))
            torch.func.jacrev(call)(images[0][0], images[1][0])


def test_compiles_with_running_estimates_and_dynamic_batch() -> None:
    def call(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return fused_batch_norm(x, None, None, mean, var, True, activation="relu")

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for batch in (2, 3, 7):
        x = torch.randn(batch, 3, 5, 5, generator=torch.Generator().manual_seed(batch))
        torch._dynamo.mark_dynamic(x, 0)
        ours, theirs = ([torch.zeros(3), torch.ones(3)] for _ in range(2))
        assert torch.equal(compiled(x, *ours), call(x, *theirs))
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
