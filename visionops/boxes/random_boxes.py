"""Random boxes as tests and benchmarks of every room draw them: anywhere, crowded around objects, or whole numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Boxes = npt.NDArray[np.float64]

INTEGERS: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int8, np.int16, np.int32, np.int64)


def uniform_boxes(rng: np.random.Generator, n: int, width: float = 1333, height: float = 800) -> Boxes:
    """N boxes (n, 4) xyxy anywhere in the image, sides log-uniform from 4 pixels to the image's own."""
    extent = np.array([width, height], dtype=np.float64)
    side = np.exp(rng.uniform(np.log(4.0), np.log(extent), size=(n, 2)))
    low = rng.uniform(0.0, 1.0, size=(n, 2)) * (extent - side)
    return np.concatenate([low, low + side], axis=1)


def clustered_boxes(
    rng: np.random.Generator,
    n: int,
    width: float = 1333,
    height: float = 800,
    *,
    objects: int = 40,
    crowd: float = 0.7,
    jitter: float = 0.1,
) -> Boxes:
    """N boxes (n, 4) xyxy as a detector gives them: a share of crowd around few objects, the others anywhere.

    jitter is the deviation of a crowding box's centre and log size, in units of its object's size.
    """
    extent = np.array([width, height], dtype=np.float64)
    crowding = round(crowd * n)
    owner = uniform_boxes(rng, objects, width, height)[rng.integers(objects, size=crowding)]
    size = owner[:, 2:] - owner[:, :2]
    centre = (owner[:, :2] + owner[:, 2:]) / 2 + rng.normal(size=(crowding, 2)) * jitter * size
    size = size * np.exp(rng.normal(size=(crowding, 2)) * jitter)
    around = np.concatenate([centre - size / 2, centre + size / 2], axis=1).clip(0.0, np.tile(extent, 2))
    boxes = np.concatenate([around, uniform_boxes(rng, n - crowding, width, height)])
    return rng.permutation(boxes, axis=0)


def scattered_boxes(
    rng: np.random.Generator, n: int, width: float = 1333, height: float = 800, clusters: int | None = None
) -> Boxes:
    """N boxes (n, 4) xyxy of log-normal size, median e^4 pixels, around n // 50 or the given number of centres."""
    extent = np.array([width, height], dtype=np.float64)
    clusters = clusters or max(1, n // 50)
    centres = rng.uniform(0.0, 1.0, size=(clusters, 2)) * extent
    centre = centres[rng.integers(clusters, size=n)] + rng.normal(size=(n, 2)) * 8
    size = np.exp(rng.normal(size=(n, 2)) * 0.6 + 4)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1).clip(0.0, np.tile(extent, 2))


def integer_boxes(rng: np.random.Generator, n: int, dtype: type[np.integer[Any]], low: int, high: int) -> Array:
    """N boxes (n, 4) xyxy with whole corners in [low, high], the first one as large as that allows."""
    corners = np.sort(rng.integers(low, high, size=(n, 2, 2), endpoint=True, dtype=np.int64), axis=1)
    corners[:1] = [[low, low], [high, high]]
    return corners.reshape(n, 4).astype(dtype)


def whole_boxes(rng: np.random.Generator, dtype: type[np.integer[Any]], n: int) -> Array:
    """N boxes (n, 4) over the dtype's whole range (int64: 2**40 either way), and among them small ones that meet."""
    wide = integer_boxes(rng, n - n // 2, dtype, _lowest(dtype), _highest(dtype))
    return np.concatenate([wide, integer_boxes(rng, n // 2, dtype, 0, 50)])


def largest_side(dtype: type[np.integer[Any]]) -> int:
    """The longest side among whole_boxes."""
    return _highest(dtype) - _lowest(dtype)


def _lowest(dtype: type[np.integer[Any]]) -> int:
    return max(int(np.iinfo(dtype).min), -(2**40))


def _highest(dtype: type[np.integer[Any]]) -> int:
    return min(int(np.iinfo(dtype).max), 2**40)
