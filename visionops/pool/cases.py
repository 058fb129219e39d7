"""The inputs that tests and benchmarks of the poolings draw from.

Float64 arrays are rounded to the dtype under test: values that were apart may then be equal, and the first counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.pool import reference
from visionops.testing import Case

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
INF, NAN = np.inf, np.nan

# Windows over (H, W), by what is special about them; the first is small and overlaps.
WINDOWS: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "3x3s2p1": ((6, 5), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "2x2": ((8, 10), {"kernel_size": 2}),
    "2x2-left-over": ((7, 9), {"kernel_size": 2}),
    "3x3s1p1": ((9, 17), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "3x3s2p1-wide": ((5, 65), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "ceil": ((7, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil-padded": ((6, 10), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    "ceil-not-inside": ((4, 4), {"kernel_size": 2, "stride": 4, "padding": 1, "ceil_mode": True}),
    "gaps": ((11, 13), {"kernel_size": 2, "stride": 5}),
    "uneven": ((9, 12), {"kernel_size": (2, 5), "stride": (3, 1), "padding": (1, 2)}),
    "one-row": ((1, 33), {"kernel_size": (1, 3), "stride": (1, 2), "padding": (0, 1)}),
    "one-column": ((33, 1), {"kernel_size": (4, 1), "stride": 1, "padding": (2, 0)}),
    "one-pixel": ((1, 1), {"kernel_size": 1}),
    "padding-around-one-pixel": ((1, 1), {"kernel_size": 2, "stride": 1, "padding": 1}),
    "whole": ((7, 7), {"kernel_size": 7}),
    "13x13s1p6": ((15, 14), {"kernel_size": 13, "stride": 1, "padding": 6}),
    "256-taps": ((18, 17), {"kernel_size": 16, "stride": 1}),
    "257-taps": ((2, 300), {"kernel_size": (1, 257), "stride": 20}),
    "stride-3": ((10, 50), {"kernel_size": 3, "stride": 3}),
    "stride-4-of-7": ((17, 40), {"kernel_size": 7, "stride": 4, "padding": 3}),
}
DILATED: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "dilated": ((9, 11), {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    "dilated-uneven": ((12, 20), {"kernel_size": (3, 2), "stride": (1, 4), "dilation": (2, 6)}),
    "dilated-shares-phases": ((8, 30), {"kernel_size": 4, "stride": 6, "padding": 2, "dilation": (2, 4)}),
    "dilated-ceil": ((10, 10), {"kernel_size": 3, "stride": 3, "dilation": 3, "ceil_mode": True}),
    # Both taps of a row or column lie in the padding.
    "dilated-around": ((3, 3), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 4}),
    "dilated-past-the-rows": ((3, 20), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": (4, 2)}),
}


def max_pool2d() -> list[Case]:
    """Every window, with values all apart, with ties, NaNs and -inf; batches of no, one and many images."""
    rng = np.random.default_rng(50)
    cases = [Case(name, (_apart(rng, (2, 3, *size)),), window) for name, (size, window) in _max_windows().items()]
    cases += [
        Case(f"{name}-wild", (_wild(rng, (2, 2, *size)),), window) for name, (size, window) in _max_windows().items()
    ]
    stem = {"kernel_size": 3, "stride": 2, "padding": 1}
    cases += [
        Case("unbatched", (_apart(rng, (3, 6, 5)),), stem),
        Case("no-images", (np.empty((0, 3, 6, 5)),), stem),
        Case("no-channels", (np.empty((2, 0, 6, 5)),), stem),
        Case("all-minus-inf", (np.full((1, 2, 5, 6), -INF),), stem),
        Case("all-nan", (np.full((1, 2, 5, 6), NAN),), stem),
        Case("all-equal", (np.zeros((1, 2, 5, 6)),), stem),
        Case("signed-zeros", (np.tile([[-0.0, 0.0], [0.0, -0.0]], (1, 2, 3, 3)),), stem),
        Case("huge", (_apart(rng, (1, 2, 6, 5)) * 1e300,), stem),
        Case("many-images", (_apart(rng, (40, 8, 24, 23)),), stem),
        Case("many-rows", (_apart(rng, (1, 2, 300, 130)),), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ]
    return [*cases, *(Case(f"{c.name}-indices", c.args, {**c.kwargs, "return_indices": True}) for c in cases)]


def max_pool2d_with_offsets() -> list[Case]:
    """As `max_pool2d`."""
    return [case for case in max_pool2d() if "return_indices" not in case.kwargs]


def max_pool2d_backward() -> list[Case]:
    """Gradients over every window, with offsets of maxima and with ones that no window has."""
    rng = np.random.default_rng(51)
    cases = []
    for case in max_pool2d_with_offsets():
        if case.name == "huge":
            continue
        image = case.args[0]
        output, offsets = reference.max_pool2d_with_offsets(image, **case.kwargs)
        grad = rng.normal(size=output.shape)
        cases.append(Case(case.name, (grad, offsets, image.shape), case.kwargs, terms=_overlap(case.kwargs)))
    stem = {"kernel_size": 3, "stride": 2, "padding": 1}
    shape = (2, 3, 6, 7)
    wild = rng.integers(0, 256, size=shape, dtype=np.uint8)
    limits = np.array([-(2**31), -1, 0, 256, 257, 2**31 - 1], np.int32)
    return [
        *cases,
        Case("wild-offsets", (rng.normal(size=shape), wild, (2, 3, 12, 13)), stem, terms=4),
        Case(
            "wild-int32-offsets",
            (rng.normal(size=(1, 1, 2, 6)), np.tile(limits, (1, 1, 2, 1)), (1, 1, 2, 262)),
            {"kernel_size": (1, 257), "stride": 1},
            terms=6,
        ),
        Case("nan-and-inf", (_wild(rng, shape), wild % 9, (2, 3, 12, 13)), stem, terms=4),
    ]


def avg_pool2d() -> list[Case]:
    """Every window with each way to count, NaNs and infinities, batches of no, one and many images."""
    rng = np.random.default_rng(52)
    stem = {"kernel_size": 3, "stride": 2, "padding": 1}
    inputs: dict[str, tuple[Array, dict[str, Any]]] = {
        name: (rng.normal(size=(2, 3, *size)), window) for name, (size, window) in WINDOWS.items()
    }
    inputs |= {
        "unbatched": (rng.normal(size=(3, 6, 5)), stem),
        "no-images": (np.empty((0, 3, 6, 5)), stem),
        "no-channels": (np.empty((2, 0, 6, 5)), stem),
        "wild": (_wild(rng, (2, 3, 12, 11)), stem),
        "many-images": (rng.normal(size=(40, 8, 24, 23)), stem),
        "many-rows": (rng.normal(size=(1, 2, 300, 130)), {"kernel_size": 3, "stride": 1, "padding": 1}),
    }
    cases = []
    for name, (image, window) in inputs.items():
        terms = int(np.prod(np.broadcast_to(window["kernel_size"], 2)))
        cases += [
            Case(name, (image,), window, terms),
            Case(f"{name}-inside", (image,), {**window, "count_include_pad": False}, terms),
            Case(f"{name}-over-7", (image,), {**window, "divisor_override": 7}, terms),
        ]
    return [*cases, Case("over-minus-2", (rng.normal(size=(1, 2, 6, 5)),), {**stem, "divisor_override": -2}, 9)]


def avg_pool2d_backward() -> list[Case]:
    """Gradients over every window of `avg_pool2d`."""
    rng = np.random.default_rng(53)
    cases = []
    for case in avg_pool2d():
        image, options = case.args[0], case.kwargs
        sizes = reference.pooled_sizes(
            image.shape, options["kernel_size"], options.get("stride"), options.get("padding", 0), 1,
            options.get("ceil_mode", False),
        )  # fmt: skip
        grad = _wild(rng, (2, 3, *sizes)) if case.name.startswith("wild") else rng.normal(
            size=(*image.shape[:-2], *sizes)
        )  # fmt: skip
        cases.append(Case(case.name, (grad, image.shape), options, _overlap(options)))
    return cases


def _max_windows() -> dict[str, tuple[tuple[int, int], dict[str, Any]]]:
    return WINDOWS | DILATED


def _overlap(window: dict[str, Any]) -> int:
    """How many windows a pixel lies in, at most."""
    kernel = np.broadcast_to(window["kernel_size"], 2)
    stride = np.broadcast_to(window.get("stride", kernel), 2)
    return int(np.prod(-(-kernel // stride)))


def _apart(rng: np.random.Generator, shape: tuple[int, ...]) -> Float64:
    """Values around 0 of which no two are near each other."""
    count = int(np.prod(shape))
    return (rng.permutation(count) - count / 2).reshape(shape) / 16


def _wild(rng: np.random.Generator, shape: tuple[int, ...]) -> Float64:
    """Small whole numbers with many ties, NaNs and infinities among them."""
    values = rng.integers(-2, 3, size=shape).astype(np.float64)
    kinds = rng.integers(12, size=shape)
    for kind, value in enumerate((NAN, -INF, INF, -0.0)):
        values[kinds == kind] = value
    return values
