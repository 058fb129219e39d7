"""Checks of arguments and their messages: the argument, what was expected, what came.

They stand in the public functions and nowhere else. They read shapes, dtypes and plain numbers, never values of a
tensor, and know neither torch nor NumPy: both kinds of array have what they need.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

# Above the integers that schemas take.
LIMIT = 1 << 63
LARGEST = sys.float_info.max


def describe(value: Any) -> str:
    """A shape, dtype or plain value as messages show it."""
    return str(tuple(value.shape)) if hasattr(value, "shape") else repr(value)


def is_a(name: str, value: Any, kind: type) -> None:
    """Raise TypeError unless `value` is a `kind` of array."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected a {kind.__module__}.{kind.__name__}, got {type(value).__name__}")


def dtype(name: str, value: Any, allowed: Collection[Any], expected: str) -> None:
    """Raise TypeError unless the dtype of `value` is among those allowed, which `expected` describes."""
    if value.dtype not in allowed:
        raise TypeError(f"{name}: expected dtype {expected}, got {value.dtype}")


def same_device(name: str, value: Any, other_name: str, other: Any) -> None:
    """Raise TypeError unless both tensors are on one device."""
    if value.device != other.device:
        raise TypeError(f"{name}: expected device {other.device} as {other_name}, got {value.device}")


def ndim(name: str, value: Any, expected: int, letters: str) -> None:
    """Raise ValueError unless `value` has as many dimensions as expected, which `letters`, like "(N,)", name."""
    if len(value.shape) != expected:
        raise ValueError(f"{name}: expected shape {letters}, got {describe(value)}")


def columns(name: str, value: Any, size: int, letters: str, *, ndim: int | None = None, min_ndim: int = 1) -> None:
    """Raise ValueError unless the last dimension has this size and the others are as many as said."""
    shape = value.shape
    if len(shape) < min_ndim or shape[-1] != size or (ndim is not None and len(shape) != ndim):
        raise ValueError(f"{name}: expected shape {letters}, got {describe(value)}")


def same_size(name: str, value: Any, other_name: str, other: Any, dim: int) -> None:
    """Raise ValueError unless both have the same size in one dimension."""
    if value.shape[dim] != other.shape[dim]:
        raise ValueError(f"{name}: expected as many as {other_name}, {other.shape[dim]}, got {value.shape[dim]}")


def same_image_size(name: str, value: Any, other_name: str, other: Any) -> None:
    """Raise ValueError unless the last two dimensions of both are the same."""
    height, width = other.shape[-2:]
    if tuple(value.shape[-2:]) != (height, width):
        raise ValueError(f"{name}: expected H={height}, W={width} as {other_name}, got {describe(value)}")


def leading(name: str, value: Any, other: Any, letters: str, *, dropped: int = 1) -> None:
    """Raise ValueError unless `value` has the shape of `other` without its last dimensions."""
    expected = other.shape[: len(other.shape) - dropped]
    if value.shape != expected:
        names = letters.strip("(,)").split(", ")
        sizes = ", ".join(f"{n}={size}" for n, size in zip(names, expected, strict=True))
        raise ValueError(f"{name}: expected shape {letters} with {sizes}, got {describe(value)}")


def broadcasts(name: str, value: Any, other_name: str, other: Any) -> None:
    """Raise ValueError unless the sizes of both before their last two broadcast with each other."""
    sizes, others = tuple(value.shape[:-2]), tuple(other.shape[:-2])
    if any(a != b and a != 1 and b != 1 for a, b in zip(reversed(sizes), reversed(others), strict=False)):
        raise ValueError(f"{name}: expected leading sizes that broadcast with {others} of {other_name}, got {sizes}")


def fraction(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a number in [0, 1]; a NaN is not."""
    number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {value}")


def number(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a plain number, ValueError if it is NaN or no float can hold it."""
    # NumPy's scalars are Real too; the plain types come first, for the abstract class is slow to ask.
    if not isinstance(value, (int, float, Real)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    # torch.compile follows a comparison of numbers that may change from call to call, but not math.isnan.
    if value != value:
        raise ValueError(f"{name}: expected a number, got nan")
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{name}: expected a number that a float can hold, got one of {value.bit_length()} bits")


def positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above 0."""
    number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a finite number above 0, got {value}")


def is_integer(value: Any) -> bool:
    """Whether `value` is a Python or NumPy integer; a bool is none."""
    # The plain type first: it is quick, and torch.compile knows of an integer that may change its type alone.
    return type(value) is int or (not isinstance(value, bool) and hasattr(value, "__index__"))


def integer(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is an integer, ValueError unless it is one of 64 bits."""
    if not is_integer(value):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if not -LIMIT <= value < LIMIT:
        raise ValueError(f"{name}: expected an integer of 64 bits, got {value}")


def count(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is an integer, ValueError if it is negative."""
    integer(name, value)
    if value < 0:
        raise ValueError(f"{name}: expected 0 or more, got {value}")


def one_of(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Raise ValueError unless `value` is one of a few."""
    # A float may equal an integer that is allowed; a list has no hash, and an array compares with each.
    if not isinstance(value, (str, int, type(None), Integral)) or value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def image_size(name: str, value: Any) -> tuple[float, float]:
    """The (height, width) that `value` holds; raise TypeError or ValueError unless it holds two numbers, 0 or more."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}: expected (height, width), got {value!r}")
    for side in value:
        number(name, side)
        if side < 0:
            raise ValueError(f"{name}: expected 0 or more, got {side}")
    height, width = value
    return float(height), float(width)


def pair(name: str, value: Any, least: int) -> list[int]:
    """The (height, width) that `value`, an integer or two, stands for; raise unless each is `least` or more."""
    if type(value) is int and least <= value < LIMIT:  # mostly
        return [value, value]
    both = list(value) if isinstance(value, (tuple, list)) else [value, value]
    if len(both) != 2:
        raise ValueError(f"{name}: expected an integer or (height, width), got {value!r}")
    for side in both:
        if not is_integer(side):
            raise TypeError(f"{name}: expected an integer or (height, width), got {value!r}")
        if not side < LIMIT:
            raise ValueError(f"{name}: expected integers of 64 bits, got {value!r}")
        if side < least:
            raise ValueError(f"{name}: expected {least} or more, got {value!r}")
    return both


def suppression_options(
    score_threshold: float | None, max_output: int | None, pixel_offset: int = 0, padded: bool = False
) -> None:
    """Raise unless the options that all suppressions share are in range."""
    if score_threshold is not None:
        number("score_threshold", score_threshold)
    if max_output is not None:
        count("max_output", max_output)
    elif padded:
        raise ValueError("max_output: expected a number of boxes with padded=True, got None")
    one_of("pixel_offset", pixel_offset, (0, 1))
