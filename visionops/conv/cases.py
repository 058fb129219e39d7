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


def channel_shuffle() -> list[Case]:
    """One group, as many as channels, and between."""
    rng = np.random.default_rng(7)
    shapes = {"few": ((2, 4, 2, 3), 2), "one": ((2, 3, 4, 5), 1), "all": ((2, 6, 3, 3), 6), "empty": ((0, 4, 2, 3), 2)}
    shapes |= {"three": ((3, 12, 1, 1), 3), "planes": ((2, 120, 17, 19), 8)}
    cases = [Case(name, (rng.normal(size=shape), groups)) for name, (shape, groups) in shapes.items()]
    return [*cases, Case("wild", (np.array([np.nan, np.inf, -np.inf, 1.0]).reshape(1, 4, 1, 1), 2))]


def conv2d() -> list[Case]:
    """Every geometry, activation and kind of padding, groups, and sizes around those of register tiles."""
    rng = np.random.default_rng(2)
    cases = [_filtered(rng, "few", (1, 2, 3, 3), 2, (2, 2), 1, (1, 0))]
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
        _transposed(rng, "few", (1, 2, 2, 2), 2, (2, 2), (2, 1), 0, (1, 0)),
        _transposed(rng, "cut", (2, 2, 3, 4), 3, (2, 3), 2, 1, 1),
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


def depthwise_conv2d() -> list[Case]:
    """Every geometry, multipliers, counts of channels around those of vectors."""
    rng = np.random.default_rng(4)
    cases = [_depthwise(rng, "few", (1, 2, 3, 3), 2, (2, 2), 1, (1, 0))]
    for name, (kernel, dilation, padding, stride, (_, height, width)) in WINDOWS.items():
        cases.append(_depthwise(rng, name, (2, 5, height, width), 5, kernel, stride, padding, dilation))
    cases += [_depthwise(rng, f"channels-{n}", (2, n, 5, 6), n, 3, 1, 1) for n in (1, 8, 15, 16, 17, 33, 130)]
    cases += [_depthwise(rng, f"{a}", (2, 17, 5, 6), 17, 3, 1, 1, activation=a) for a in ACTIVATIONS if a]
    cases += [
        _depthwise(rng, "multiplier", (2, 3, 5, 6), 6, 3, 2, 1),
        _depthwise(rng, "same-even", (2, 3, 5, 6), 3, 4, 1, "same"),
        _depthwise(rng, "no-bias", (2, 3, 5, 6), 3, 3, bias=False),
        _depthwise(rng, "empty", (0, 3, 5, 6), 3, 3),
        _depthwise(rng, "planes", (2, 40, 33, 35), 40, 3, 2, 1),
    ]
    return cases


def pointwise_conv2d() -> list[Case]:
    """Few and many channels, one pixel, activations."""
    rng = np.random.default_rng(5)
    sizes = {"few": ((1, 3, 2, 2), 2), "one-pixel": ((2, 40, 1, 1), 35), "deep": ((1, 700, 3, 5), 33)}
    sizes |= {"empty": ((0, 3, 2, 3), 4), "planes": ((2, 24, 17, 19), 40)}
    filtered = [_filtered(rng, name, shape, filters, 1) for name, (shape, filters) in sizes.items()]
    filtered += [_filtered(rng, f"{a}", (2, 3, 4, 5), 6, 1, activation=a) for a in ACTIVATIONS if a]
    return [Case(case.name, case.args[:3], case.kwargs, case.terms) for case in filtered]


def depthwise_separable_conv2d() -> list[Case]:
    """Every geometry, with and without norms and activations, more channels than are packed at a time."""
    rng = np.random.default_rng(6)
    cases = [_separable(rng, "few", (2, 3, 4, 5), 4, 3, padding=1)]
    for name, (kernel, dilation, padding, stride, (_, height, width)) in WINDOWS.items():
        window = {"dilation": dilation, "padding": padding, "stride": stride}
        cases.append(_separable(rng, name, (2, 5, height, width), 7, kernel, **window))
    both = {"depthwise_activation": "relu", "pointwise_activation": "relu6"}
    cases += [
        _separable(rng, f"{a}", (2, 17, 5, 6), 18, 3, padding=1, depthwise_activation=a) for a in ACTIVATIONS if a
    ]
    cases += [
        _separable(rng, "block", (2, 35, 14, 15), 70, 3, padding=1, **both),
        _separable(rng, "block-stride", (2, 64, 15, 16), 33, 3, padding=1, stride=2, **both),
        _separable(rng, "deep", (1, 330, 7, 7), 300, 3, padding=1, **both),
        _separable(rng, "many-taps", (1, 18, 9, 40), 5, 7, padding="same"),
        _separable(rng, "empty", (0, 3, 4, 5), 4, 3),
    ]
    plain = _separable(rng, "no-norms", (2, 3, 6, 7), 4, 3, padding=1, stride=2)
    kwargs = {k: v for k, v in plain.kwargs.items() if not k.endswith("norm")}
    return [*cases, Case("no-norms", plain.args, kwargs, plain.terms)]


def _depthwise(
    rng: np.random.Generator,
    name: str,
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    bias: bool = True,
    **kwargs: Any,
) -> Case:
    """A case of `depthwise_conv2d`: that of `conv2d` without its groups."""
    case = _filtered(rng, name, shape, filters, kernel, stride, padding, dilation, shape[1], bias, **kwargs)
    return Case(name, case.args[:6], case.kwargs, case.terms)


def _separable(
    rng: np.random.Generator, name: str, shape: tuple[int, int, int, int], filters: int, kernel: Any, **kwargs: Any
) -> Case:
    """A case of `depthwise_separable_conv2d` with both norms, whose middle and results are about 1."""
    channels, taps = shape[1], int(np.prod(_pair(kernel)))
    first = rng.normal(size=(channels, 1, *_pair(kernel))) / taps**0.5
    second = rng.normal(size=(filters, channels, 1, 1)) / channels**0.5
    norms = {
        "depthwise_norm": (rng.uniform(0.5, 1.5, channels), rng.normal(size=channels)),
        "pointwise_norm": (rng.uniform(0.5, 1.5, filters), rng.normal(size=filters)),
    }
    # A value sums the channels' rounded middles, each of which sums its taps.
    return Case(name, (rng.normal(size=shape), first, second), norms | kwargs, channels + taps + 2)


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
