"""What box_iou says of a pair of boxes and the gradient of that, for Triton: csrc/boxes/box_iou_pair.h once more.

Modes are the numbers of IOU_MODES. `mine` is the side whose gradient is asked, `theirs` the other.
"""

from __future__ import annotations

import triton
import triton.language as tl

from visionops._triton_math import (
    area,
    aspect_angle,
    centre_distance,
    finite_or_zero,
    is_finite,
    larger,
    ratio,
    side,
    smaller,
)

IOU, GIOU, DIOU, CIOU, IOF = (tl.constexpr(mode) for mode in range(5))


@triton.jit
def load_boxes(boxes, index, mask, COMPUTE: tl.constexpr):
    """Coordinates of the boxes at `index`, empty boxes where masked."""
    corner = boxes + index * 4
    x1 = tl.load(corner, mask, 0).to(COMPUTE)
    y1 = tl.load(corner + 1, mask, 0).to(COMPUTE)
    x2 = tl.load(corner + 2, mask, 0).to(COMPUTE)
    y2 = tl.load(corner + 3, mask, 0).to(COMPUTE)
    return x1, y1, x2, y2


@triton.jit
def measure(x1, y1, x2, y2, offset, MODE: tl.constexpr):
    """Area and angle of boxes; only ciou reads the angle, NaN where the area is: no aspect penalty there."""
    own = area(x1, y1, x2, y2, offset)
    angle = own
    if MODE == CIOU:
        angle = tl.where(own == own, aspect_angle(side(x1, x2, offset), side(y1, y2, offset)), own)
    return own, angle


@triton.jit
def _aspect(turn):
    # ciou's v: 4 / pi^2 times the squared difference of two angles.
    return 0.40528473456935108577551785283891 * (turn * turn)


@triton.jit
def pair_value(
    ax1, ay1, ax2, ay2, area_a, angle_a, bx1, by1, bx2, by2, area_b, angle_b, offset, MODE: tl.constexpr
):  # fmt: skip
    """The value of a pair; finite for every input, 0 for a pair with a NaN box."""
    inter = area(larger(ax1, bx1), larger(ay1, by1), smaller(ax2, bx2), smaller(ay2, by2), offset)
    if MODE == IOF:
        value = ratio(inter, area_a + tl.zeros_like(inter))
    else:
        both = (area_a + area_b) - inter
        value = ratio(inter, both)
        iou = value
        if MODE != IOU:
            hull_width = side(smaller(ax1, bx1), larger(ax2, bx2), offset)
            hull_height = side(smaller(ay1, by1), larger(ay2, by2), offset)
            if MODE == GIOU:
                hull = hull_width * hull_height
                value = iou - ratio(hull - both, hull)
            else:
                dx = centre_distance(ax1, ax2, bx1, bx2)
                dy = centre_distance(ay1, ay2, by1, by2)
                distance = ratio(dx * dx + dy * dy, hull_width * hull_width + hull_height * hull_height)
                # Above 1 only where a box is inverted, and then without bound.
                value = iou - tl.where(distance < 1, distance, 1.0)
        if MODE == CIOU:
            aspect = _aspect(angle_a - angle_b)
            weight = ratio(aspect, (1 - iou) + aspect)
            value = value - tl.where(weight > 0, weight * aspect, 0.0)
    return value


@triton.jit
def _is_usable(derivative):
    # One so steep that a sum of 2^31 might overflow counts as not finite: as 0.
    if derivative.dtype == tl.float32:
        steepest = 2.0**96
    else:
        steepest = 2.0**992
    return (derivative <= steepest) & (derivative >= -steepest)


@triton.jit
def _usable_or_zero(derivative):
    return tl.where(_is_usable(derivative), derivative, 0.0)


@triton.jit
def _ratio_gradient(numerator, denominator):
    """The partial derivatives of ratio(): both 0 where it is constant or they are not usable."""
    inverse = 1 / denominator
    slope = -(numerator / denominator) * inverse
    both = _is_usable(slope) & _is_usable(inverse)
    return tl.where(both, inverse, 0.0), tl.where(both, slope, 0.0)


@triton.jit
def _end_gradient(mine, theirs, by_smaller, by_larger):
    """The derivative by my end of an interval: of what the smaller and of what the larger of both ends bounds."""
    # A tie gives half of each, as torch.minimum and torch.maximum do.
    tied = by_smaller / 2 + by_larger / 2
    return tl.where(mine < theirs, by_smaller, tl.where(mine > theirs, by_larger, tied))


@triton.jit
def pair_gradient(
    mx1, my1, mx2, my2, area_m, angle_m, tx1, ty1, tx2, ty2, area_t, angle_t, offset,
    MODE: tl.constexpr, MINE_FIRST: tl.constexpr,
):  # fmt: skip
    """The gradient of pair_value by x1, y1, x2, y2, area and angle of mine, all finite; ciou's weight is fixed."""
    low_x, high_x = larger(mx1, tx1), smaller(mx2, tx2)
    low_y, high_y = larger(my1, ty1), smaller(my2, ty2)
    width, height = side(low_x, high_x, offset), side(low_y, high_y, offset)
    inter = width * height
    both = (area_m + area_t) - inter
    zero = tl.zeros_like(inter)
    by_hull_width, by_hull_height, by_centre_x, by_centre_y, by_angle = zero, zero, zero, zero, zero
    if MODE == IOF:
        by_inter, by_area = _ratio_gradient(inter, zero + (area_m if MINE_FIRST else area_t))
        if not MINE_FIRST:
            by_area = zero
    else:
        by_common, by_area = _ratio_gradient(inter, both)
        if MODE != IOU:
            left, right = smaller(mx1, tx1), larger(mx2, tx2)
            top, bottom = smaller(my1, ty1), larger(my2, ty2)
            hull_width, hull_height = side(left, right, offset), side(top, bottom, offset)
            if MODE == GIOU:
                hull = hull_width * hull_height
                by_waste, by_denominator = _ratio_gradient(hull - both, hull)
                by_area = by_area + by_waste
                by_hull = -(by_waste + by_denominator)
                by_width, by_height = by_hull * hull_height, by_hull * hull_width
            else:
                dx, dy = centre_distance(mx1, mx2, tx1, tx2), centre_distance(my1, my2, ty1, ty2)
                apart, diagonal = dx * dx + dy * dy, hull_width * hull_width + hull_height * hull_height
                by_apart, by_diagonal = _ratio_gradient(apart, diagonal)
                clamped = ratio(apart, diagonal) > 1
                by_apart, by_diagonal = tl.where(clamped, 0.0, -by_apart), tl.where(clamped, 0.0, -by_diagonal)
                # d(apart)/d(coordinate) is 2 dx / 2: each end moves the centre by half.
                by_centre_x, by_centre_y = _usable_or_zero(by_apart * dx), _usable_or_zero(by_apart * dy)
                by_width, by_height = by_diagonal * (2 * hull_width), by_diagonal * (2 * hull_height)
            by_hull_width = tl.where((right - left) + offset >= 0, _usable_or_zero(by_width), 0.0)
            by_hull_height = tl.where((bottom - top) + offset >= 0, _usable_or_zero(by_height), 0.0)
        if MODE == CIOU:
            turn = angle_m - angle_t
            aspect = _aspect(turn)
            weight = ratio(aspect, (1 - ratio(inter, both)) + aspect)
            by_angle = tl.where(weight > 0, -weight * (0.81056946913870217155103570567782 * turn), 0.0)
        by_inter = by_common - by_area
    by_width = tl.where((high_x - low_x) + offset >= 0, _usable_or_zero(by_inter * height), 0.0)
    by_height = tl.where((high_y - low_y) + offset >= 0, _usable_or_zero(by_inter * width), 0.0)
    grad_x1 = by_centre_x - _end_gradient(mx1, tx1, by_hull_width, by_width)
    grad_y1 = by_centre_y - _end_gradient(my1, ty1, by_hull_height, by_height)
    grad_x2 = by_centre_x + _end_gradient(mx2, tx2, by_width, by_hull_width)
    grad_y2 = by_centre_y + _end_gradient(my2, ty2, by_height, by_hull_height)
    return grad_x1, grad_y1, grad_x2, grad_y2, by_area, by_angle


@triton.jit
def _chain(outer, inner):
    product = outer * finite_or_zero(inner)
    return tl.where(is_finite(outer), finite_or_zero(product), product)  # a NaN that came in goes out


@triton.jit
def coordinate_gradient(x1, y1, x2, y2, grad_x1, grad_y1, grad_x2, grad_y2, by_area, by_angle, offset):
    """The gradient by the four coordinates alone, once those by area and angle are summed over the box's pairs."""
    width, height = side(x1, x2, offset), side(y1, y2, offset)
    diagonal = width * width + height * height
    by_width = _chain(by_area, height) + _chain(by_angle, height / diagonal)
    by_height = _chain(by_area, width) - _chain(by_angle, width / diagonal)
    dx = tl.where((x2 - x1) + offset >= 0, by_width, 0.0)
    dy = tl.where((y2 - y1) + offset >= 0, by_height, 0.0)
    return grad_x1 - dx, grad_y1 - dy, grad_x2 + dx, grad_y2 + dy
