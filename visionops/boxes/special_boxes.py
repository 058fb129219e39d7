"""Boxes with something special about them: related, degenerate, wild, or at the ends of a dtype's range."""

import numpy as np
import numpy.typing as npt

from visionops.boxes.random_boxes import uniform_boxes

Boxes = npt.NDArray[np.float64]
NAN, INF = np.nan, np.inf

RELATED = np.array(
    [
        [0.0, 0.0, 10.0, 10.0],
        [0.0, 0.0, 10.0, 10.0],  # identical
        [2.0, 3.0, 7.0, 5.0],  # nested
        [4.0, 4.0, 6.0, 6.0],  # nested with the same centre
        [0.0, 0.0, 5.0, 10.0],  # nested, three sides shared
        [10.0, 0.0, 20.0, 10.0],  # shares an edge
        [10.0, 10.0, 15.0, 15.0],  # shares a corner
        [30.0, 40.0, 35.0, 60.0],  # disjoint
        [-5.0, -5.0, 5.0, 5.0],  # overlaps, negative corner
        [-20.0, -30.0, -10.0, -5.0],  # disjoint, negative
        [-3.0, 4.0, 13.0, 6.0],  # a cross
        [0.25, 0.5, 9.75, 9.5],  # nearly identical
    ]
)


def zero_area() -> Boxes:
    """Points, one of them twice, and lines."""
    return np.array([[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 8.0, 2.0], [5.0, 0.0, 5.0, 9.0], [0.0] * 4])


def inverted() -> Boxes:
    """Inverted in x, in y, in both; by less than a pixel; far enough that a centre leaves the enclosing box."""
    x, y, less = [8.0, 1.0, 2.0, 6.0], [1.0, 7.0, 6.0, 2.0], [4.5, 2.0, 4.0, 6.0]
    # Two boxes inverted both ways enclose nothing.
    both, again = [9.0, 9.0, 1.0, 1.0], [7.0, 6.0, 2.0, 3.0]
    return np.array([x, y, both, again, less, [100.0, 0.0, -100.0, 4.0], [60.0, 0.0, 1.0, 4.0]])


def with_nan() -> Boxes:
    """A box with each of its coordinates NaN in turn, then all of them."""
    boxes = np.tile([2.0, 3.0, 7.0, 9.0], (5, 1))
    boxes[range(4), range(4)] = NAN
    boxes[4] = NAN
    return boxes


def with_inf() -> Boxes:
    """Boxes that reach to infinity on one side, on all, and that lie there."""
    reaching = [[-INF, 3.0, 7.0, 9.0], [2.0, -INF, 7.0, 9.0], [2.0, 3.0, INF, 9.0], [2.0, 3.0, 7.0, INF]]
    return np.array([*reaching, [-INF, -INF, INF, INF], [INF] * 4, [-INF] * 4, [INF, INF, -INF, -INF]])


def half_large() -> Boxes:
    """Sides of 50,000, which float16 holds, with areas and squares that it does not."""
    full = [-25_000.0, -25_000.0, 25_000.0, 25_000.0]
    return np.array([full, [0.0, 0.0, 25_000.0, 25_000.0], [-25_000.0, 0.0, 25_000.0, 50_000.0], [1.0, 1.0, 9.0, 9.0]])


def half_denormal() -> Boxes:
    """Sides of a few float16 denormals, all exact in every dtype."""
    return RELATED[:6] * 2.0**-24


def far() -> Boxes:
    """Small boxes at the end of a 4K image: centres must not lose what the corners hold."""
    rng = np.random.default_rng(6)
    return np.add(uniform_boxes(rng, 9, 40, 40), [3900.0, 2100.0, 3900.0, 2100.0])
