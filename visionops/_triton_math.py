"""The geometry of boxes for Triton kernels: csrc/common/box.h once more."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def smaller(a, b):
    """The smaller, `b` where they do not compare: a NaN in `a` is lost, as in C++'s a < b ? a : b."""
    return tl.where(a < b, a, b)


@triton.jit
def larger(a, b):
    """The larger, `b` where they do not compare."""
    return tl.where(a > b, a, b)


@triton.jit
def divide(numerator, denominator):
    """The quotient, correctly rounded: Triton's own division of float32 is not."""
    if numerator.dtype == tl.float32:
        quotient = tl.div_rn(numerator, denominator)
    else:
        quotient = numerator / denominator
    return quotient


@triton.jit
def is_finite(value):
    """Whether it is neither NaN nor infinite."""
    return value - value == 0


@triton.jit
def finite_or_zero(value):
    """The value, 0 where it is not finite."""
    return tl.where(is_finite(value), value, 0.0)


@triton.jit
def ratio(numerator, denominator):
    """The quotient, 0 where it is not finite: empty, infinite and NaN boxes overlap nothing."""
    return finite_or_zero(divide(numerator, denominator))


@triton.jit
def side(low, high, offset):
    """Length of [low, high]: 0 if inverted, NaN if either end is. `offset` is 1 where high names the last pixel."""
    length = (high - low) + offset
    return tl.where(length < 0, 0.0, length)


@triton.jit
def area(x1, y1, x2, y2, offset):
    """Area of a box."""
    return side(x1, x2, offset) * side(y1, y2, offset)


@triton.jit
def centre_distance(low_a, high_a, low_b, high_b):
    """Signed distance between the centres of two intervals; by differences, which keep their digits far out."""
    return ((low_a - low_b) + (high_a - high_b)) / 2


@triton.jit
def _arctangent(tangent):
    """Arc tangent for |tangent| <= tan(pi/8), by Cephes' polynomial for float and rational function for double."""
    square = tangent * tangent
    if tangent.dtype == tl.float32:
        series = 8.05374449538e-2
        series = series * square - 1.38776856032e-1
        series = series * square + 1.99777106478e-1
        series = series * square - 3.33329491539e-1
        series = series * square
    else:
        upper = -8.750608600031904122785e-1
        upper = upper * square - 1.615753718733365076637e1
        upper = upper * square - 7.500855792314704667340e1
        upper = upper * square - 1.228866684490136173410e2
        upper = upper * square - 6.485021904942025371773e1
        lower = square + 2.485846490142306297962e1
        lower = lower * square + 1.650270098316988542046e2
        lower = lower * square + 4.328810604912902668951e2
        lower = lower * square + 4.853903996359136964868e2
        lower = lower * square + 1.945506571482613964425e2
        series = square * upper / lower
    return series * tangent + tangent


@triton.jit
def aspect_angle(width, height):
    """atan2(width, height) of two lengths that are not negative."""
    shorter = smaller(width, height)
    longer = larger(width, height)
    # atan(t) = pi/4 + atan((t - 1) / (t + 1)) keeps the argument below tan(pi/8).
    # Two infinite sides are steep too, two empty ones are not: as atan2 has it.
    steep = (longer > 0) & (shorter >= 0.41421356 * longer)
    tangent = ratio(tl.where(steep, shorter - longer, shorter), tl.where(steep, shorter + longer, longer))
    rest = _arctangent(tangent)
    angle = tl.where(steep, 0.78539816339744830962 + rest, rest)
    return tl.where(width > height, 1.57079632679489661923 - angle, angle)
