"""What every test shares: the shape of a case, the tolerance table and the comparison against a reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """One input of a public operation.

    Float64 arrays are rounded to the dtype under test before the operation and its reference see them; integer and
    boolean arrays are passed as they are.

    Attributes:
        name: What is special about it, unique within the operation.
        args: Positional arguments in the public order: NumPy arrays and plain values.
        kwargs: Keyword arguments, without `backend` and `padded`.
        terms: How many rounded terms each value of the result sums, for the tolerance.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    terms: int = 1


# Relative error allowed of a value whose magnitude is about 1, per dtype of the result: a few roundings of it.
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}

# The same of a gradient whose input was rebuilt from an output, over the largest value of the gradient.
REBUILT = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def compare(actual: NDArray[Any], expected: NDArray[Any], dtype: str, terms: int = 1) -> None:
    """Raise AssertionError unless `actual` is `expected`: exactly if integers, else within the tolerance.

    Args:
        actual: What an operation returned, cast to float64 if floating.
        expected: What its reference returned.
        dtype: The dtype in which `actual` was computed, a key of TOLERANCE.
        terms: How many rounded terms each value sums; the tolerance grows with its square root.
    """
    if np.issubdtype(expected.dtype, np.integer) or expected.dtype == np.bool_:
        np.testing.assert_array_equal(actual, expected, err_msg=dtype)
        return
    # What lies beyond the dtype's range is infinite in it; NumPy has no bfloat16, whose range is float32's.
    with np.errstate(over="ignore"):
        expected = expected.astype("float32" if dtype == "bfloat16" else dtype).astype(np.float64)
    tolerance = TOLERANCE[dtype] * max(terms, 1) ** 0.5
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=dtype)
