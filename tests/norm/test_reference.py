"""The references of room norm against second witnesses: torch in float64, and values worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from visionops.norm import reference as ref

TORCH = {
    None: lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * 3)


def _arrays(*tensors: Tensor | None) -> list[Any]:
    return [None if t is None else t.detach().numpy().copy() for t in tensors]


def _close(actual: Any, expected: Tensor) -> None:
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=1e-10, atol=1e-10)


def test_every_activation_is_witnessed() -> None:
    assert TORCH.keys() == ref.ACTIVATIONS.keys()


@settings(deadline=None, max_examples=150)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 4).filter(lambda s: s[0] * s[2] * s[3] > 1),
    activation=st.sampled_from(list(TORCH)),
    mode=st.sampled_from(["training", "training without estimates", "eval"]),
    affine=st.booleans(),
    with_residual=st.booleans(),
    momentum=st.floats(0, 1),
    eps=st.sampled_from([1e-5, 1e-3, 0.5]),
)
def test_batch_norm_and_its_gradients_are_torchs(
    shape: tuple[int, ...],
    activation: str | None,
    mode: str,
    affine: bool,
    with_residual: bool,
    momentum: float,
    eps: float,
) -> None:
    channels, training, estimates = shape[1], mode != "eval", mode != "training without estimates"
    x = _normal(0, *shape).requires_grad_()
    weight, bias = (_normal(s, channels).requires_grad_() if affine else None for s in (1, 2))
    mean, var = (_normal(3, channels), _normal(4, channels).abs() + 0.1) if estimates else (None, None)
    residual = _normal(5, *shape).requires_grad_() if with_residual else None
    grad = _normal(6, *shape)

    args = _arrays(x, weight, bias, mean, var)
    options: dict[str, Any] = {"residual": _arrays(residual)[0], "activation": activation}
    out = ref.fused_batch_norm(*args, training, momentum, eps, **options)
    grads = ref.fused_batch_norm_backward(grad.numpy(), *args, training, eps, **options)
    moved = ref.moved_estimates(args[0], args[3], args[4], momentum) if training and estimates else None

    before = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)  # moves its estimates in place
    expected = TORCH[activation](before if residual is None else before + residual)
    expected.backward(grad)
    _close(out, expected)
    for got, witness in zip(grads, (x, weight, bias, residual), strict=True):
        if witness is not None:
            assert witness.grad is not None
            _close(got, witness.grad)
    if moved is not None:
        assert mean is not None
        assert var is not None
        _close(moved[0], mean)
        _close(moved[1], var)


@pytest.mark.parametrize("activation", list(TORCH))
def test_activations_and_their_slopes_at_kinks_and_far_out(activation: str | None) -> None:
    x = torch.tensor([-1e4, -3.0, -1e-9, 0.0, 1e-9, 3.0, 6.0, 1e4], dtype=torch.float64, requires_grad=True)
    value, slope = ref.ACTIVATIONS[activation]
    expected = TORCH[activation](x)
    expected.sum().backward()
    assert x.grad is not None
    _close(value(x.detach().numpy()), expected)
    _close(slope(x.detach().numpy()), x.grad)


def test_values_worked_by_hand() -> None:
    # Channel 0 holds 1 and 3: mean 2, biased variance 1, unbiased 2. Channel 1 is constant.
    x = np.array([[[[1.0, 3.0]], [[5.0, 5.0]]]])
    mean, var = ref.batch_statistics(x)
    np.testing.assert_array_equal(mean, [2, 5])
    np.testing.assert_array_equal(var, [1, 0])
    moved = ref.moved_estimates(x, np.zeros(2), np.ones(2), 0.5)
    np.testing.assert_array_equal(moved, [[1, 2.5], [1.5, 0.5]])
    out = ref.fused_batch_norm(x, np.array([2.0, 2.0]), np.array([1.0, -1.0]), None, None, True, eps=3.0)
    np.testing.assert_array_equal(out, [[[[0, 2]], [[-1, -1]]]])
    relu = ref.fused_batch_norm(
        x, None, None, None, None, True, eps=3.0, residual=np.full_like(x, 0.25), activation="relu"
    )
    np.testing.assert_array_equal(relu, [[[[0, 0.75]], [[0.25, 0.25]]]])


def test_eval_without_running_estimates_is_an_error() -> None:
    with pytest.raises(ValueError, match="running_mean, running_var: expected both"):
        ref.fused_batch_norm(np.ones((2, 1, 1, 1)), None, None, None, None)


def test_variance_far_from_zero() -> None:
    x = np.random.default_rng(0).normal(1e4, 1, size=(1, 1, 1000, 1000)).astype(np.float32)
    shifted = x.astype(np.float64) - 1e4
    _, var = ref.batch_statistics(x)
    np.testing.assert_allclose(var, [shifted.var()], rtol=1e-12)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_folded_convolution_is_the_convolution_and_its_norm(with_bias: bool, affine: bool, groups: int) -> None:
    x, weight = _normal(0, 2, 4, 5, 6), _normal(1, 6, 4 // groups, 3, 3)
    bias = _normal(2, 6) if with_bias else None
    gain, offset = (_normal(3, 6), _normal(4, 6)) if affine else (None, None)
    mean, var = _normal(5, 6), _normal(6, 6).abs() + 0.1
    folded = ref.fold_batch_norm(*_arrays(weight, bias, mean, var, gain, offset), 1e-3)
    got = F.conv2d(x, *map(torch.from_numpy, folded), groups=groups)
    expected = F.batch_norm(F.conv2d(x, weight, bias, groups=groups), mean, var, gain, offset, eps=1e-3)
    _close(got.numpy(), expected)
