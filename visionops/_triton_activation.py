"""The activations for Triton: csrc/common/activation.h once more, by their numbers in ACTIVATIONS."""

from __future__ import annotations

import triton
import triton.language as tl

NONE, RELU, LEAKY_RELU, RELU6, SILU, HARDSWISH, GELU = (tl.constexpr(number) for number in range(7))


@triton.jit
def _within(value, low, high):
    """The value within [low, high]; a NaN stays one."""
    raised = tl.where(value < low, low, value)
    return tl.where(raised > high, high, raised)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _normal_below(x):
    return 0.5 * (1 + tl.erf(x * 0.70710678118654752440))


@triton.jit
def activated(x, ACTIVATION: tl.constexpr):
    """The value of an activation; comparisons are written so that a NaN goes through."""
    if ACTIVATION == RELU:
        x = tl.where(x < 0, 0.0, x)
    elif ACTIVATION == LEAKY_RELU:
        x = tl.where(x < 0, 0.01 * x, x)
    elif ACTIVATION == RELU6:
        x = _within(x, 0.0, 6.0)
    elif ACTIVATION == SILU:
        x = x * _sigmoid(x)
    elif ACTIVATION == HARDSWISH:
        x = x * _within(x + 3, 0.0, 6.0) / 6
    elif ACTIVATION == GELU:
        x = x * _normal_below(x)
    return x


@triton.jit
def is_steep(x, ACTIVATION: tl.constexpr):
    """Where the slope of a kinked activation is 1."""
    if ACTIVATION == RELU6:
        steep = (x > 0) & (x < 6)
    else:
        steep = x > 0
    return steep


@triton.jit
def passed(grad, steep, ACTIVATION: tl.constexpr):
    """A gradient before a kinked activation: nothing where the slope is 0, infinite as it may be."""
    if ACTIVATION == LEAKY_RELU:
        flat = grad * 0.01
    else:
        flat = tl.zeros_like(grad)
    return tl.where(steep, grad, flat)


@triton.jit
def slope(x, ACTIVATION: tl.constexpr):
    """The derivative; at a kink it is torch's."""
    if ACTIVATION == NONE:
        value = tl.zeros_like(x) + 1
    elif ACTIVATION == LEAKY_RELU:
        value = tl.where(is_steep(x, ACTIVATION), 1.0, 0.01)
    elif ACTIVATION == SILU:
        s = _sigmoid(x)
        value = s * (1 + x * (1 - s))
    elif ACTIVATION == HARDSWISH:
        value = tl.where(x <= -3, 0.0, tl.where(x < 3, x / 3 + 0.5, 1.0))
    elif ACTIVATION == GELU:
        value = _normal_below(x) + x * tl.exp(-0.5 * x * x) * 0.39894228040143267794
    else:
        value = tl.where(is_steep(x, ACTIVATION), 1.0, 0.0)
    return value
