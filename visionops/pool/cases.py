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
STEM = WINDOWS["3x3s2p1"][1]
DILATED: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "dilated": ((9, 11), {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    "dilated-uneven": ((12, 20), {"kernel_size": (3, 2), "stride": (1, 4), "dilation": (2, 6)}),
    "dilated-shares-phases": ((8, 30), {"kernel_size": 4, "stride": 6, "padding": 2, "dilation": (2, 4)}),
    "dilated-ceil": ((10, 10), {"kernel_size": 3, "stride": 3, "dilation": 3, "ceil_mode": True}),
    # Both taps of a row or column lie in the padding.
    "dilated-around": ((3, 3), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 4}),
    "dilated-past-the-columns": ((20, 3), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": (2, 4)}),
    "dilated-past-the-rows": ((3, 20), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": (4, 2)}),
}


def max_pool2d() -> list[Case]:
    """Of `max_pool2d_with_offsets` the wild ones with indices, and of the others some, for their values alone."""
    cases = max_pool2d_with_offsets()
    return [
        *(case for case in cases if case.name not in (WINDOWS | DILATED) or case.name in list(WINDOWS)[:6]),
        *(Case(f"{c.name}-indices", c.args, c.kwargs | {"return_indices": True}) for c in cases if "wild" in c.name),
    ]


def max_pool2d_with_offsets() -> list[Case]:
    """Every window, with values all apart, then some with ties, NaNs and -inf; special images, no, one and many."""
    rng = np.random.default_rng(50)
    windows = WINDOWS | DILATED
    cases = [Case(name, (_apart(rng, (2, 3, *size)),), window) for name, (size, window) in windows.items()]
    for name in ("3x3s2p1", "2x2-left-over", "ceil-padded", "13x13s1p6", "256-taps", *DILATED):
        size, window = windows[name]
        cases.append(Case(f"{name}-wild", (_wild(rng, (2, 2, *size)),), window))
    # Of as many channels as vectors have, which channels_last calls take another way.
    cases += [
        Case(f"{name}-many-channels", (_wild(rng, (2, 40, *windows[name][0])),), windows[name][1])
        for name in ("3x3s2p1", "2x2-left-over", "dilated-around")
    ]
    inputs = {
        "unbatched": _apart(rng, (3, 6, 5)),
        "no-images": np.empty((0, 3, 6, 5)),
        "no-channels": np.empty((2, 0, 6, 5)),
        "all-minus-inf": np.full((1, 2, 5, 6), -INF),
        "all-nan": np.full((1, 2, 5, 6), NAN),
        "all-equal": np.zeros((1, 2, 5, 6)),
        "signed-zeros": np.tile([[-0.0, 0.0], [0.0, -0.0]], (1, 2, 3, 3)),
        "huge": _apart(rng, (1, 2, 6, 5)) * 1e300,
        "many-images": _apart(rng, (40, 2, 24, 23)),
    }
    return [*cases, *(Case(name, (image,), STEM) for name, image in inputs.items())]


def max_pool2d_backward() -> list[Case]:
    """Gradients over every window, with offsets of maxima and with ones that no window has."""
    rng = np.random.default_rng(51)
    cases = []
    for case in max_pool2d_with_offsets():
        if case.name == "huge" or "wild" in case.name:
            continue  # offsets are all that counts
        image = case.args[0]
        output, offsets = reference.max_pool2d_with_offsets(image, **case.kwargs)
        grad = rng.normal(size=output.shape)
        cases.append(Case(case.name, (grad, offsets, image.shape), case.kwargs, terms=_overlap(case.kwargs)))
    shape = (2, 3, 6, 7)
    wild = rng.integers(0, 256, size=shape, dtype=np.uint8)
    limits = np.array([-(2**31), -1, 0, 256, 257, 2**31 - 1], np.int32)
    return [
        *cases,
        Case("wild-offsets", (rng.normal(size=shape), wild, (2, 3, 12, 13)), STEM, terms=4),
        Case("wild-offsets-2x2", (rng.normal(size=shape), wild, (2, 3, 12, 15)), {"kernel_size": 2}),
        Case(
            "wild-int32-offsets",
            (rng.normal(size=(1, 1, 2, 6)), np.tile(limits, (1, 1, 2, 1)), (1, 1, 2, 262)),
            {"kernel_size": (1, 257), "stride": 1},
            terms=6,
        ),
        Case("nan-and-inf", (_wild(rng, shape), wild % 9, (2, 3, 12, 13)), STEM, terms=4),
    ]


def avg_pool2d() -> list[Case]:
    """Every window, with each way to count where they differ; NaNs and infinities, no, one and many images."""
    rng = np.random.default_rng(52)
    inputs: dict[str, tuple[Array, dict[str, Any]]] = {
        name: (rng.normal(size=(2, 3, *size)), window) for name, (size, window) in WINDOWS.items()
    }
    inputs |= {
        f"{name}-inside": (rng.normal(size=(2, 3, *size)), window | {"count_include_pad": False})
        for name, (size, window) in WINDOWS.items()
        if "padding" in window
    }
    inputs |= {
        f"{name}-over-7": (rng.normal(size=(2, 3, *WINDOWS[name][0])), WINDOWS[name][1] | {"divisor_override": 7})
        for name in ("3x3s2p1", "2x2-left-over", "ceil-padded")
    }
    inputs |= {
        "over-minus-2": (rng.normal(size=(1, 2, 6, 5)), STEM | {"divisor_override": -2}),
        "many-channels": (rng.normal(size=(2, 40, 6, 5)), STEM),
        "unbatched": (rng.normal(size=(3, 6, 5)), STEM),
        "no-images": (np.empty((0, 3, 6, 5)), STEM),
        "no-channels": (np.empty((2, 0, 6, 5)), STEM),
        "wild": (_wild(rng, (2, 3, 12, 11)), STEM),
        "many-images": (rng.normal(size=(40, 2, 24, 23)), STEM),
    }
    return [
        Case(name, (image,), window, terms=int(np.prod(np.broadcast_to(window["kernel_size"], 2))))
        for name, (image, window) in inputs.items()
    ]


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


def max_unpool2d() -> list[Case]:
    """Indices of maxima, of one pixel several times, and outside the image; sizes given and not."""
    rng = np.random.default_rng(54)
    cases = []
    pooled: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
        "2x2": ((6, 8), {"kernel_size": 2}),
        "2x2-left-over": ((7, 9), {"kernel_size": 2}),
        "3x3s2p1": ((9, 11), {"kernel_size": 3, "stride": 2, "padding": 1}),
        "many-images": ((10, 12), {"kernel_size": 2}),
    }
    for name, (size, window) in pooled.items():
        batch = (40, 8) if name == "many-images" else (2, 3)
        output, indices = reference.max_pool2d(_apart(rng, (*batch, *size)), **window, return_indices=True)
        cases.append(Case(name, (output, indices), {**window, "output_size": size}))
    values, counted = rng.normal(size=(1, 2, 2, 3)), np.arange(12).reshape(1, 2, 2, 3)
    limits = np.array([[-1, 3, -(2**63)], [16, 15, 2**63 - 1]])
    more: dict[str, tuple[Array, Array, dict[str, Any]]] = {
        "default-size": (values, counted, {"kernel_size": 3, "stride": 2}),
        "size-of-the-batch": (values, counted, {"kernel_size": 2, "output_size": (1, 2, 5, 7)}),
        "unbatched": (values[0], counted[0], {"kernel_size": 2}),
        "wild-indices": (values, np.tile(limits, (1, 2, 1, 1)), {"kernel_size": 2}),
        "one-pixel": (values, np.full_like(counted, 7), {"kernel_size": 2}),
        "nan-and-inf": (_wild(rng, (2, 20, 4, 4)), rng.integers(64, size=(2, 20, 4, 4)), {"kernel_size": 2}),
        "no-images": (np.empty((0, 3, 2, 2)), np.empty((0, 3, 2, 2), np.int64), {"kernel_size": 2}),
        "no-channels": (np.empty((2, 0, 2, 2)), np.empty((2, 0, 2, 2), np.int64), {"kernel_size": 2}),
    }
    return [*cases, *(Case(name, (v, indices), window) for name, (v, indices, window) in more.items())]


# Bins that divide a side, share pixels, are one, are more than the pixels; None keeps a side.
BINS: dict[str, tuple[tuple[int, int], Any]] = {
    "5x4-to-3x2": ((5, 4), (3, 2)),
    "7x7-to-1": ((7, 7), 1),
    "12x9-to-4x3": ((12, 9), (4, 3)),
    "13x17-to-6": ((13, 17), 6),
    "20x65-to-7x16": ((20, 65), (7, 16)),
    "3x4-to-5x9": ((3, 4), (5, 9)),
    "6x5-to-same": ((6, 5), (None, 5)),
    "6x40-to-none-by-3": ((6, 40), (None, 3)),
    "1x1-to-3": ((1, 1), 3),
    "1x33-to-1x4": ((1, 33), (1, 4)),
}


def adaptive_avg_pool2d() -> list[Case]:
    """Bins of every kind, NaNs and infinities, batches of no, one and many images."""
    rng = np.random.default_rng(55)
    cases = [_adaptive(name, rng.normal(size=(2, 3, *size)), out) for name, (size, out) in BINS.items()]
    return [
        *cases,
        _adaptive("unbatched", rng.normal(size=(3, 7, 8)), 2),
        _adaptive("no-images", np.empty((0, 3, 7, 8)), 2),
        _adaptive("no-channels", np.empty((2, 0, 7, 8)), 2),
        _adaptive("wild", _wild(rng, (2, 3, 13, 12)), (5, 4)),
        _adaptive("many-images", rng.normal(size=(40, 8, 12, 11)), (3, 4)),
        _adaptive("many-planes", _wild(rng, (1, 37, 9, 10)), (4, 3)),
    ]


def adaptive_max_pool2d() -> list[Case]:
    """As `adaptive_avg_pool2d`, with values all apart, then with ties, NaNs and -inf and with indices."""
    rng = np.random.default_rng(56)
    cases = [Case(name, (_apart(rng, (2, 3, *size)), out)) for name, (size, out) in BINS.items()]
    wild: dict[str, tuple[Array, Any]] = {
        f"{name}-wild": (_wild(rng, (2, 3, *size)), out) for name, (size, out) in BINS.items()
    }
    wild |= {
        "unbatched": (_apart(rng, (3, 7, 8)), 2),
        "no-images": (np.empty((0, 3, 7, 8)), 2),
        "no-channels": (np.empty((2, 0, 7, 8)), 2),
        "all-minus-inf": (np.full((1, 2, 5, 6), -INF), 2),
        "all-nan": (np.full((1, 2, 5, 6), NAN), 2),
        "all-equal": (np.zeros((1, 2, 5, 6)), (2, 4)),
        "many-images": (_apart(rng, (40, 8, 12, 11)), (3, 4)),
        "many-planes": (_wild(rng, (1, 37, 9, 10)), (4, 3)),
    }
    return [*cases, *(Case(name, arguments, {"return_indices": True}) for name, arguments in wild.items())]


def global_avg_pool2d() -> list[Case]:
    """Planes of several sizes."""
    rng = np.random.default_rng(57)
    shapes = [(2, 3, 4, 5), (3, 7, 7), (0, 3, 4, 5), (2, 0, 4, 5), (2, 20, 1, 1), (40, 2, 14, 14), (1, 1, 100, 100)]
    return [Case("x".join(map(str, s)), (rng.normal(size=s),), terms=s[-2] * s[-1]) for s in shapes]


def spatial_pyramid_pool() -> list[Case]:
    """Both modes, the levels of SPP and of PSPNet, maps smaller than a level."""
    rng = np.random.default_rng(58)
    inputs = {
        "few": _apart(rng, (2, 2, 5, 6)),
        "unbatched": _apart(rng, (3, 13, 13)),
        "small": _apart(rng, (1, 2, 3, 2)),
        "no-images": np.empty((0, 3, 7, 7)),
        "many-images": _apart(rng, (20, 2, 13, 13)),
    }
    cases = [Case(name, (x,)) for name, x in inputs.items()]
    cases += [Case(f"{name}-1236-avg", (x, (1, 2, 3, 6)), {"mode": "avg"}, terms=169) for name, x in inputs.items()]
    return [*cases, Case("one-level", (inputs["few"], [3]))]


def _adaptive(name: str, image: Float64, output_size: Any) -> Case:
    return Case(name, (image, output_size), terms=image.shape[-2] * image.shape[-1])


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
