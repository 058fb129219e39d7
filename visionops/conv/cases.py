"""The inputs that tests and benchmarks of the convolutions draw from."""

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.testing import Case

Array = npt.NDArray[Any]

# Geometries of a window: kernel, dilation, padding, stride, and the (C, H, W) of an image that shows their edges.
WINDOWS: dict[str, tuple[Any, Any, Any, Any, tuple[int, int, int]]] = {
    "one": (1, 1, 0, 1, (3, 4, 5)),
    "three": (3, 1, 1, 1, (2, 5, 7)),
    "stride": (3, 1, 1, 2, (2, 8, 9)),
    "dilated": (3, 2, 2, 1, (2, 7, 6)),
    "asymmetric": ((1, 3), (1, 2), (0, 3), (2, 1), (2, 6, 5)),
    "gaps": (2, 1, 0, 3, (2, 9, 7)),
    "all-padding": (2, 3, 4, 5, (1, 3, 2)),
    "one-pixel": (3, 1, 1, 1, (4, 1, 1)),
    "seven": (7, 1, 3, 2, (2, 20, 33)),
    "wide": (3, 1, 1, 1, (1, 3, 1030)),
}


def im2col() -> list[Case]:
    """Every geometry, empty batches and channels, values that are not finite."""
    rng = np.random.default_rng(0)
    cases = [_case("few", rng.normal(size=(2, 2, 3, 4)), 2, 1, 1, 1)]
    cases += [_case(n, rng.normal(size=(2, *s)), k, d, p, st) for n, (k, d, p, st, s) in WINDOWS.items()]
    cases += [
        _case("empty", np.empty((0, 2, 4, 4)), 3),
        _case("no-channels", np.empty((2, 0, 4, 4)), 3),
        _case("no-pixels", np.empty((2, 2, 0, 4)), 3, 1, 2, 1),
        _case("wild", np.array([np.nan, np.inf, -np.inf, 1.0]).reshape(1, 1, 2, 2), 2, 1, 1, 1),
        _case("planes", rng.normal(size=(3, 17, 20, 24)), 3, 1, 1, 1),
    ]
    return cases


def col2im() -> list[Case]:
    """The columns of `im2col`'s images, with other values."""
    rng = np.random.default_rng(1)
    cases = []
    for case in im2col():
        if case.name == "wild":
            continue
        image, kernel, *window = case.args
        dilation, padding, stride = window or (1, 0, 1)
        taps = int(np.prod(_pair(kernel)))
        windows = int(np.prod(_positions(image.shape[2:], kernel, dilation, padding, stride)))
        columns = rng.normal(size=(image.shape[0], image.shape[1] * taps, windows))
        cases.append(Case(case.name, (columns, image.shape[2:], kernel, dilation, padding, stride), terms=taps))
    wild = np.array([np.nan, 1.0, np.inf, 2.0] * 4).reshape(1, 4, 4)
    return [*cases, Case("wild", (wild, (3, 3), 2))]


def _case(name: str, image: Array, *window: Any) -> Case:
    return Case(name, (image, *window))


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _positions(size: tuple[int, ...], kernel: Any, dilation: Any, padding: Any, stride: Any) -> list[int]:
    sides = zip(size, _pair(kernel), _pair(dilation), _pair(padding), _pair(stride), strict=True)
    return [(side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, d, p, s in sides]
