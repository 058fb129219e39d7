"""What the normalisations mean, in NumPy and float64: the text that every kernel is tested against."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

_erf: Callable[[Float64], Float64] = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: Float64) -> Float64:
    return x * _normal_below(x)


def _gelu_slope(x: Float64) -> Float64:
    return _normal_below(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _normal_below(x: Float64) -> Float64:
    return (1 + _erf(x / math.sqrt(2))) / 2


def _sigmoid(x: Float64) -> Float64:
    # tanh overflows nowhere.
    return (1 + np.tanh(x / 2)) / 2


def _silu_slope(x: Float64) -> Float64:
    return _sigmoid(x) * (1 + x * (1 - _sigmoid(x)))


# A name to the function and its derivative; at a kink the derivative is torch's.
ACTIVATIONS: dict[str | None, tuple[Callable[[Float64], Float64], Callable[[Float64], Float64]]] = {
    None: (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01)),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0)),
    "silu": (lambda x: x * _sigmoid(x), _silu_slope),
    "hardswish": (
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(x <= -3, 0.0, np.where(x < 3, x / 3 + 0.5, 1.0)),
    ),
    "gelu": (_gelu, _gelu_slope),
}


def batch_statistics(input: Array) -> tuple[Float64, Float64]:
    """The mean and the biased variance of each channel of (B, C, H, W), both (C,); of no values 0."""
    x = input.astype(np.float64)
    if x.size == 0:
        return np.zeros(input.shape[1]), np.zeros(input.shape[1])
    mean = x.mean(axis=(0, 2, 3))
    return mean, ((x - _per_channel(mean)) ** 2).mean(axis=(0, 2, 3))


def moved_estimates(input: Array, running_mean: Array, running_var: Array, momentum: float) -> tuple[Float64, Float64]:
    """The running estimates after a training call: moved by `momentum` to the batch's mean and unbiased variance."""
    if input.size == 0:
        return running_mean, running_var
    mean, var = batch_statistics(input)
    count = input.size // input.shape[1]
    unbiased = var * count / (count - 1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * unbiased


def fused_batch_norm(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: str | None = None,
) -> Float64:
    """activation((input - mean) / sqrt(var + eps) * weight + bias + residual), of (B, C, H, W).

    The statistics are the batch's in training, else the running estimates, which it leaves as they are.
    """
    before, _, _ = _before_activation(input, weight, bias, running_mean, running_var, training, eps, residual)
    with np.errstate(invalid="ignore"):  # of infinities
        return ACTIVATIONS[activation][0](before)


def fused_batch_norm_backward(
    grad: Array,
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: str | None = None,
) -> tuple[Float64, Float64, Float64, Float64]:
    """The gradients of `fused_batch_norm` with respect to input, weight, bias and residual."""
    before, normal, scale = _before_activation(input, weight, bias, running_mean, running_var, training, eps, residual)
    inner = grad.astype(np.float64) * ACTIVATIONS[activation][1](before)
    grad_bias = inner.sum(axis=(0, 2, 3))
    grad_weight = (inner * normal).sum(axis=(0, 2, 3))
    grad_input = inner
    if training:
        # The batch's own mean and variance move with every value: what lies along them has no effect.
        count = input.size // input.shape[1]
        grad_input = inner - _per_channel(grad_bias / count) - normal * _per_channel(grad_weight / count)
    return grad_input * scale, grad_weight, grad_bias, inner


def fold_batch_norm(
    weight: Array,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    bn_weight: Array | None,
    bn_bias: Array | None,
    eps: float = 1e-5,
) -> tuple[Float64, Float64]:
    """The weight (C, ...) and bias (C,) of a convolution that does what it and its norm in eval mode did."""
    scale = _or_constant(bn_weight, 1.0, running_var) / np.sqrt(running_var.astype(np.float64) + eps)
    shift = _or_constant(bias, 0.0, running_var) - running_mean.astype(np.float64)
    trailing = (1,) * (weight.ndim - 1)
    folded = weight.astype(np.float64) * scale.reshape(-1, *trailing)
    return folded, shift * scale + _or_constant(bn_bias, 0.0, running_var)


def _before_activation(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    eps: float,
    residual: Array | None,
) -> tuple[Float64, Float64, Float64]:
    """What the activation sees, the normalised input, and d(the first)/d(input - mean) for a fixed variance."""
    if training:
        mean, var = batch_statistics(input)
    elif running_mean is None or running_var is None:
        raise ValueError("running_mean, running_var: expected both with training=False, got None")
    else:
        mean, var = running_mean.astype(np.float64), running_var.astype(np.float64)
    inverse = 1 / np.sqrt(var + eps)
    with np.errstate(invalid="ignore"):
        normal = (input.astype(np.float64) - _per_channel(mean)) * _per_channel(inverse)
    gain = _or_constant(weight, 1.0, mean)
    before = normal * _per_channel(gain) + _per_channel(_or_constant(bias, 0.0, mean))
    if residual is not None:
        before = before + residual.astype(np.float64)
    return before, normal, _per_channel(gain * inverse)


def _per_channel(values: Float64) -> Float64:
    """(C,) to (1, C, 1, 1)."""
    return values[None, :, None, None]


def _or_constant(values: Array | None, constant: float, like: Array) -> Float64:
    return np.full(like.shape, constant) if values is None else values.astype(np.float64)
