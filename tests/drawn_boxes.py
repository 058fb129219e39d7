"""Boxes as hypothesis draws them."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Array = npt.NDArray[Any]

# Eighths up to 100: every sum and product of them is exact in float64.
eighths = st.integers(-800, 800).map(lambda i: i / 8)


def boxes_of(corner: st.SearchStrategy[float], max_size: int = 6) -> st.SearchStrategy[Array]:
    """Boxes (n, 4) with ordered corners, n at least 1."""
    side = st.tuples(corner, corner).map(sorted)
    box = st.tuples(side, side).map(lambda s: [s[0][0], s[1][0], s[0][1], s[1][1]])
    return st.lists(box, min_size=1, max_size=max_size).map(lambda rows: np.array(rows, dtype=np.float64))


def rows_of(coordinate: st.SearchStrategy[float]) -> st.SearchStrategy[Array]:
    """Boxes (n, 4) of any four coordinates, inverted ones among them."""
    return st.lists(st.tuples(*[coordinate] * 4), min_size=1, max_size=4).map(lambda r: np.array(r, dtype=np.float64))
