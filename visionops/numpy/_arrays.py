"""Arrays as the compiled module takes them, and the dtypes that it knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionops import _check

FLOATING = frozenset(map(np.dtype, ("float64", "float32", "float16")))
INTEGERS = frozenset(map(np.dtype, ("uint8", "int8", "int16", "int32", "int64")))
NUMBERS = FLOATING | INTEGERS


def array_of(name: str, value: Any) -> NDArray[Any]:
    """`value` itself if it is C-contiguous, aligned and of native byte order, else such a copy; raise if no array."""
    _check.is_a(name, value, np.ndarray)
    return contiguous(value)


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """`array` itself if it is C-contiguous, aligned and of native byte order, else such a copy."""
    flags = array.flags
    # np.require takes as long as a small kernel to see the same.
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array
    return np.require(array, array.dtype.newbyteorder("="), ("C_CONTIGUOUS", "ALIGNED"))


def boxes_of(
    name: str, value: Any, letters: str, *, columns: int = 4, ndim: int | None = None, min_ndim: int = 1
) -> NDArray[Any]:
    """`value` as contiguous boxes of numbers; raise unless it is an array whose shape fits."""
    array = array_of(name, value)
    _check.columns(name, array, columns, letters, ndim=ndim, min_ndim=min_ndim)
    _check.dtype(name, array, NUMBERS, "floating or integer")
    return array


def masks_of(name: str, value: Any, letters: str) -> NDArray[Any]:
    """`value` as contiguous masks (N, H, W); raise unless it is an array of that rank, of bool or numbers."""
    array = array_of(name, value)
    _check.ndim(name, array, 3, letters)
    _check.dtype(name, array, NUMBERS | {np.dtype("bool")}, "bool, floating or integer")
    return array
