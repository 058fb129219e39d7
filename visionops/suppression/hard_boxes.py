"""Boxes on which a suppression's decision hangs: exact overlaps, wild values, and how scores are drawn beside them."""

import numpy as np
import numpy.typing as npt

from visionops.boxes.random_boxes import clustered_boxes, scattered_boxes, uniform_boxes

Float64 = npt.NDArray[np.float64]

NAN, INF = np.nan, np.inf
GENERATORS = {"uniform": uniform_boxes, "clustered": clustered_boxes, "scattered": scattered_boxes}

# Two boxes and their IoU, exact in every dtype: the fraction is what a threshold is set to.
EXACT_PAIRS = {
    "1/2": [[0, 0, 2, 1], [0, 0, 1, 1]],
    "1/3": [[0, 0, 2, 1], [1, 0, 3, 1]],
    "1/5": [[0, 0, 3, 1], [2, 0, 5, 1]],
    "7/10": [[0, 0, 10, 1], [0, 0, 7, 1]],
    "3/7": [[0, 0, 5, 1], [2, 0, 7, 1]],
    "1/1": [[0, 0, 3, 7], [0, 0, 3, 7]],
    "0/1": [[0, 0, 3, 7], [3, 0, 9, 7]],
}


WILD_BOXES = {
    "nan-x1": [NAN, 0.0, 50.0, 50.0],
    "nan-y2": [0.0, 0.0, 50.0, NAN],
    "inf-x2": [0.0, 0.0, INF, 50.0],
    "inf-y1": [0.0, -INF, 50.0, 50.0],
    "inf-all": [-INF, -INF, INF, INF],
    "inf-point": [INF, INF, INF, INF],
    "inf-flat": [-INF, 5.0, INF, 5.0],
    "inf-inverted": [INF, 0.0, -INF, 50.0],
    "inverted-x": [90.0, 0.0, 10.0, 50.0],
    "inverted": [90.0, 90.0, 10.0, 10.0],
    "flat": [10.0, 20.0, 90.0, 20.0],
    "point": [10.0, 20.0, 10.0, 20.0],
    "huge": [-1e30, -1e30, 1e30, 1e30],
    "negative": [-90.0, -70.0, -10.0, -20.0],
}


def descending(n: int) -> Float64:
    """N scores in eighths, which every dtype holds apart up to 256 of them."""
    return np.arange(n, 0, -1) / 8


def lattice(rng: np.random.Generator, n: int) -> Float64:
    """N boxes (n, 4) with corners in 0..8: many pairs have the same IoU, a small fraction."""
    low = rng.integers(0, 8, size=(n, 2))
    high = rng.integers(low + 1, 9)
    return np.concatenate([low, high], axis=1).astype(np.float64)


def razor_pairs(rng: np.random.Generator, n: int, iou: float) -> Float64:
    """N pairs as boxes (2 n, 4), the pairs apart, each with this IoU but for roundings: nested ones, then shifted.

    A fused multiply-add, a reciprocal or another order of operations decides some of them otherwise.
    """
    place = np.stack(np.divmod(np.arange(n), 20), axis=1) * 40.0
    low = place + rng.uniform(0.0, 5.0, size=(n, 2))
    side = rng.uniform(5.0, 20.0, size=(n, 2))
    nested = np.arange(n) < n // 2
    shift = np.where(nested, 0.0, side[:, 0] * (1 - iou) / (1 + iou))
    width = np.where(nested, side[:, 0] * iou, side[:, 0])
    other = np.stack([low[:, 0] + shift, low[:, 1], low[:, 0] + shift + width, low[:, 1] + side[:, 1]], axis=1)
    return np.concatenate([np.concatenate([low, low + side], axis=1), other])


def replaced(array: Float64, rows: list[int], value: float | list[float]) -> Float64:
    """A copy with some rows of another value."""
    copy = array.copy()
    copy[rows] = value
    return copy
