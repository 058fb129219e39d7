"""The activations that may follow a convolution, and their derivatives, for Triton kernels: csrc/conv/activation.h."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activated(x, ACTIVATION: tl.constexpr):
    """The activation of that number at x; comparisons are written so that a NaN goes through."""
    if ACTIVATION == 1:
        x = tl.where(x < 0, 0.0, x)
    if ACTIVATION == 2:
        x = tl.where(x < 0, 0.01 * x, x)
    if ACTIVATION == 3:
        x = tl.where(x < 0, 0.0, tl.where(x > 6, 6.0, x))
    if ACTIVATION == 4:
        x = x / (1 + tl.exp(-x))
    if ACTIVATION == 5:
        x = x * tl.where(x + 3 < 0, 0.0, tl.where(x + 3 > 6, 6.0, x + 3)) / 6
    if ACTIVATION == 6:
        x = x * (1 + tl.erf(x * 0.70710678118654752440)) / 2
    return x


@triton.jit
def slope(x, ACTIVATION: tl.constexpr):
    """Its derivative at x; at a kink torch's."""
    result = tl.zeros_like(x) + 1
    if ACTIVATION == 1:
        result = tl.where(x > 0, 1.0, 0.0)
    if ACTIVATION == 2:
        result = tl.where(x > 0, 1.0, 0.01)
    if ACTIVATION == 3:
        result = tl.where((x > 0) & (x < 6), 1.0, 0.0)
    if ACTIVATION == 4:
        gate = 1 / (1 + tl.exp(-x))
        result = gate * (1 + x * (1 - gate))
    if ACTIVATION == 5:
        result = tl.where(x <= -3, 0.0, tl.where(x < 3, x / 3 + 0.5, 1.0))
    if ACTIVATION == 6:
        below = (1 + tl.erf(x * 0.70710678118654752440)) / 2
        result = below + x * tl.exp(-x * x / 2) * 0.39894228040143267794
    return result
