"""The inputs that tests and benchmarks of the convolutions draw from."""

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops._codes import ACTIVATIONS
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


def conv2d() -> list[Case]:
    """Every geometry, activation and kind of padding, groups, and sizes around those of register tiles."""
    rng = np.random.default_rng(2)
    cases = [_filtered(rng, "few", (2, 2, 4, 5), 3, (2, 3), 1, 1)]
    for name, (kernel, dilation, padding, stride, shape) in WINDOWS.items():
        cases.append(_filtered(rng, name, (2, *shape), 5, kernel, stride, padding, dilation))
    cases += [_filtered(rng, f"{a}", (2, 3, 6, 7), 4, 3, 1, 1, activation=a) for a in ACTIVATIONS if a]
    cases += [
        _filtered(rng, "same", (1, 2, 5, 6), 3, (3, 3), 1, "same"),
        _filtered(rng, "same-even", (1, 2, 5, 6), 3, (2, 4), 1, "same", (1, 2)),
        _filtered(rng, "valid", (1, 2, 5, 6), 3, 3, 2, "valid"),
        _filtered(rng, "no-bias", (2, 3, 5, 6), 4, 3, bias=False),
        _filtered(rng, "groups", (2, 6, 5, 6), 9, 3, 1, 1, groups=3),
        _filtered(rng, "depthwise", (2, 5, 6, 7), 10, 3, 2, 1, groups=5),
        _filtered(rng, "empty", (0, 2, 4, 5), 3, 3),
        # Sums of more terms than are packed at a time, and more filters than a block's tiles are kept.
        _filtered(rng, "deep", (1, 45, 6, 7), 3, 3, 1, 1),
        _filtered(rng, "one-pixel-deep", (3, 400, 1, 1), 33, 1),
        _filtered(rng, "many-tiles", (1, 37, 17, 16), 460, 3, 1, 1),
    ]
    cases += [_filtered(rng, f"filters-{n}", (1, 2, 6, 6), n, 3, 1, 1) for n in (1, 13, 14, 15, 29, 32, 33)]
    cases += [_filtered(rng, f"width-{n}", (2, 2, 1, n), 4, 1) for n in (8, 15, 16, 17, 31, 32, 33, 65)]
    wild = np.array([np.nan, np.inf, -np.inf, 1.0, 2.0, 3.0]).reshape(1, 1, 2, 3)
    return [*cases, Case("wild", (wild, np.ones((2, 1, 2, 2)), None, 1, 1), terms=4)]


def im2col_conv2d() -> list[Case]:
    """Those of `conv2d` without activation."""
    return [case for case in conv2d() if not case.kwargs]


def conv_transpose2d() -> list[Case]:
    """Strides with and without gaps and overlaps, output_padding, groups, several terms a phase."""
    rng = np.random.default_rng(3)
    cases = [
        _transposed(rng, "few", (2, 2, 3, 4), 3, (2, 3), 2, 1, 1),
        _transposed(rng, "one", (2, 3, 4, 5), 2, 1),
        _transposed(rng, "three", (2, 3, 4, 5), 2, 3, 1, 1),
        _transposed(rng, "stride", (2, 3, 4, 33), 5, 3, 2, 1, 1),
        _transposed(rng, "gaps", (2, 2, 3, 4), 3, 2, 3, 0, 2),
        _transposed(rng, "dilated", (2, 2, 4, 5), 3, 3, 2, 2, 0, 1, 3),
        _transposed(rng, "dilated-evenly", (2, 2, 4, 5), 3, 3, 2, 1, (1, 1), 1, 2),
        _transposed(rng, "asymmetric", (2, 2, 4, 5), 3, (1, 4), (3, 1), (0, 2), (2, 0), 1, (2, 3)),
        _transposed(rng, "groups", (2, 6, 4, 5), 9, 3, 2, 1, 1, 3),
        _transposed(rng, "depthwise", (2, 4, 4, 5), 8, 3, 2, 1, 0, 4),
        _transposed(rng, "no-bias", (2, 3, 4, 5), 2, 3, 2, bias=False),
        _transposed(rng, "one-pixel", (3, 5, 1, 1), 2, 3, 2, 1),
        _transposed(rng, "empty", (0, 2, 3, 4), 3, 2, 2),
        _transposed(rng, "deep", (1, 45, 5, 6), 3, 3, 1, 1),
        _transposed(rng, "deep-stride", (1, 90, 5, 6), 34, 4, 2, 1),
    ]
    return cases


def _filtered(
    rng: np.random.Generator,
    name: str,
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: bool = True,
    **kwargs: Any,
) -> Case:
    """A case of `conv2d` whose results are about 1."""
    sizes = (filters, shape[1] // groups, *_pair(kernel))
    terms = int(np.prod(sizes[1:]))
    weight = rng.normal(size=sizes) / max(terms, 1) ** 0.5
    args = (rng.normal(size=shape), weight, rng.normal(size=filters) if bias else None)
    return Case(name, (*args, stride, padding, dilation, groups), kwargs, terms + 1)


def _transposed(
    rng: np.random.Generator,
    name: str,
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    bias: bool = True,
) -> Case:
    """A case of `conv_transpose2d` whose results are about 1."""
    sizes = (shape[1], filters // groups, *_pair(kernel))
    terms = shape[1] // groups * sizes[2] * sizes[3]
    weight = rng.normal(size=sizes) / terms**0.5
    args = (rng.normal(size=shape), weight, rng.normal(size=filters) if bias else None)
    return Case(name, (*args, stride, padding, output_padding, groups, dilation), terms=terms + 1)


def _case(name: str, image: Array, *window: Any) -> Case:
    return Case(name, (image, *window))


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _positions(size: tuple[int, ...], kernel: Any, dilation: Any, padding: Any, stride: Any) -> list[int]:
    sides = zip(size, _pair(kernel), _pair(dilation), _pair(padding), _pair(stride), strict=True)
    return [(side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, d, p, s in sides]
