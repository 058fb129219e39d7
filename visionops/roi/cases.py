"""The inputs that tests and benchmarks of the operations on regions of interest draw from.

Boxes are float32 whatever the map's dtype, as a detector has them, but for the cases that say otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.testing import Case

Array = npt.NDArray[Any]
NAN, INF = np.nan, np.inf


def feature_map(rng: np.random.Generator, *shape: int) -> Array:
    """Values without ties, of both signs."""
    return rng.normal(size=shape)


def random_rois(
    rng: np.random.Generator, count: int, batch: int, height: float, width: float, *, most: float = 1.0
) -> Array:
    """(count, 5) float32: boxes with corners in an image of this size, sides up to `most` of its own."""
    size = np.array([width, height])
    low = rng.uniform(size=(count, 2)) * size
    sides = rng.uniform(0.02, most, size=(count, 2)) * size
    image = rng.integers(batch, size=(count, 1))
    return np.concatenate([image, low, low + sides], axis=1).astype(np.float32)


def _rois(*rows: tuple[float, ...]) -> Array:
    return np.array(rows, np.float32).reshape(-1, 5)


# Around a map of 9 x 13 pixels: what a detector may send, and what it should not.
INSIDE = _rois((0, 1.25, 2.5, 6.5, 7.75), (1, 0.1, 0.3, 11.9, 8.2), (0, 4, 3, 9, 6))
ACROSS = _rois((0, -3.5, -2.25, 4.5, 5), (1, 8.75, 4, 17, 12.5), (1, -20, -30, 40, 50), (0, -0.5, -0.5, 12.5, 8.5))
OUTSIDE = _rois((0, -30, 2, -20, 5), (1, 2, 40, 5, 60), (0, 13, 9, 14, 10), (1, -2, -2, -1, -1), (0, 14, 0, 15, 3))
EMPTY = _rois((0, 3, 3, 3, 3), (1, 4.5, 2, 4.5, 6), (0, 2, 5.25, 7, 5.25), (0, -1, -1, -1, -1), (1, 13, 9, 13, 9))
INVERTED = _rois((0, 8, 7, 2, 1), (1, 10, 2, 3, 6), (0, 2, 6, 9, 1), (1, 20, 20, -20, -20))
WILD = _rois(
    (0, NAN, 1, 5, 5), (0, 1, NAN, 5, 5), (1, 1, 1, NAN, 5), (0, 1, 1, 5, NAN), (NAN, 1, 1, 5, 5), (NAN,) * 5,
    (0, INF, 1, 5, 5), (0, -INF, -INF, INF, INF), (1, 1, 1, 5, INF), (INF, 1, 1, 5, 5), (0, 1, 2, 8, 7),
)  # fmt: skip
HUGE = _rois(
    (0, -1e5, -1e5, 1e5, 1e5), (1, 0, 0, 1e5, 8), (0, -1e7, 1, 1e7, 6), (1, -1e9, -3e9, 2e9, 1e9),
    (0, 3e37, 3e37, 3e38, 3e38), (0, -3e38, -2e38, 3e38, 3e38), (1, 1, 2, 8, 7),
)  # fmt: skip


def roi_align() -> list[Case]:
    """Sampling ratios -1 to 4, both alignments, both modes, regions of all kinds, sizes around a vector's."""
    rng = np.random.default_rng(0)
    few = feature_map(rng, 2, 3, 9, 13)
    cases = [
        _align("few", few, INSIDE, 2, 1.0, 2, True),
        _align("few-legacy", few, INSIDE, (3, 2), 1.0, 1),
        _align("no-rois", few, _rois(), 7),
        _align("no-images", few[:0], _rois(), 7),
        _align("no-channels", few[:, :0], INSIDE, 2),
        _align("no-pixels", few[:, :, :, :0], INSIDE, 2, 1.0, 2),
    ]
    kinds = {"across": ACROSS, "outside": OUTSIDE, "empty": EMPTY, "inverted": INVERTED, "wild": WILD, "huge": HUGE}
    for name, rois in kinds.items():
        for sampling_ratio in (-1, 2):
            for aligned in (False, True):
                label = f"{name}-{sampling_ratio}" + ("-aligned" if aligned else "")
                cases.append(_align(label, few, rois, (2, 3), 1.0, sampling_ratio, aligned))
    everything = np.concatenate([INSIDE, ACROSS, OUTSIDE, EMPTY, INVERTED])
    for sampling_ratio in (-1, 0, 1, 2, 3, 4):
        cases.append(_align(f"all-kinds-{sampling_ratio}", few, everything, (5, 4), 0.75, sampling_ratio, True))
    # Widths around the vectors of each instruction set, of 4, 8 and 16 floats, and of pairs of them.
    for width in (1, 3, 8, 15, 16, 17, 31, 33, 66):
        image = feature_map(rng, 1, 2, 5, width)
        rois = np.concatenate([random_rois(rng, 2, 1, 5, width), _rois((0, 0, 0, width, 5))])
        cases.append(_align(f"width-{width}", image, rois, (2, 7), 1.0, 0, True))
    for channels in (1, 15, 17, 33, 65, 130):
        image = feature_map(rng, 2, channels, 6, 7)
        cases.append(_align(f"channels-{channels}", image, random_rois(rng, 3, 2, 6, 7), (3, 2), 1.0, 2, True))
    for bins in ((1, 1), (7, 7), (14, 14), (8, 9), (17, 3)):
        image = feature_map(rng, 1, 2, 24, 20)
        rois = random_rois(rng, 3, 1, 96, 80)
        cases.append(_align(f"bins-{bins[0]}x{bins[1]}", image, rois, bins, 0.25, 0, True))
    own = random_rois(rng, 6, 2, 9, 13).astype(np.float64)
    # With seven bins over six pixels a sample lies a rounding of double before the fourth pixel.
    column = np.zeros((1, 18, 8, 8))
    column[..., 2], column[..., 5] = INF, -INF
    greatest = [replace(case, name=f"max-{case.name}", kwargs={"mode": "max"}) for case in cases]
    return [
        *cases,
        *greatest,
        _align("tall", feature_map(rng, 1, 2, 300, 3), _rois((0, 0, 10, 3, 290)), 7, 1.0, -1, True),
        _align("boxes-in-the-dtype", few, own, 3, 1.0, 2, True),
        _align("many-samples", few, INSIDE, 2, 1.0, 40, True),
        _align("unfinite", _unfinite(rng), random_rois(rng, 12, 1, 12, 40), (4, 5), 1.0, 2, True),
        replace(_align("max-unfinite", _unfinite(rng), random_rois(rng, 9, 1, 12, 40), 4), kwargs={"mode": "max"}),
        replace(_align("max-column", column, _rois((0, 0, 0, 6, 6)), 7, 1.0, 1), kwargs={"mode": "max"}),
        _align("half-50", np.full((1, 1, 70, 70), 50.0), _rois((0, 2, 2, 66, 66)), 1, 1.0, 0, True),
    ]


def roi_pool() -> list[Case]:
    """Regions of all kinds, halves to round, NaN and infinities in the map, sizes around a vector's."""
    rng = np.random.default_rng(1)
    few = feature_map(rng, 2, 3, 9, 13)
    halves = np.concatenate([np.zeros((40, 1)), rng.integers(-8, 40, (40, 4)) / 2], axis=1).astype(np.float32)
    inputs = {
        "few": (few, INSIDE, 2),
        "no-rois": (few, _rois(), 7),
        "no-images": (few[:0], _rois(), 7),
        "no-channels": (few[:, :0], INSIDE, 2),
        "no-pixels": (few[:, :, :, :0], INSIDE, 2),
        "halves": (few, halves, 3),
        "boxes-in-the-dtype": (few, random_rois(rng, 6, 2, 9, 13).astype(np.float64), 3),
        "unfinite": (_unfinite(rng), random_rois(rng, 12, 1, 12, 40), (4, 5)),
        "all-minus-infinity": (np.full((1, 2, 6, 7), -INF), random_rois(rng, 3, 1, 6, 7), 3),
        "lowest": (np.full((1, 2, 6, 7), -60000.0), random_rois(rng, 3, 1, 6, 7), 3),
    }
    kinds = {"across": ACROSS, "outside": OUTSIDE, "empty": EMPTY, "inverted": INVERTED, "wild": WILD, "huge": HUGE}
    inputs |= {name: (few, rois, (2, 3)) for name, rois in kinds.items()}
    for width in (1, 3, 8, 15, 16, 17, 31, 33, 66):
        inputs[f"width-{width}"] = (feature_map(rng, 1, 2, 5, width), random_rois(rng, 3, 1, 5, width), (2, 7))
    for channels in (1, 15, 17, 33, 65, 130):
        inputs[f"channels-{channels}"] = (feature_map(rng, 2, channels, 6, 7), random_rois(rng, 3, 2, 6, 7), (3, 2))
    for bins in ((1, 1), (7, 7), (14, 14), (17, 3)):
        image, rois = feature_map(rng, 1, 2, 24, 20), random_rois(rng, 3, 1, 24, 20)
        inputs[f"bins-{bins[0]}x{bins[1]}"] = (image, rois, bins)
    cases = [Case(name, call) for name, call in inputs.items()]
    return [*cases, Case("scaled", (few, random_rois(rng, 9, 2, 90, 130), 4, 0.1))]


def multiscale_roi_align() -> list[Case]:
    """Boxes of every level, at its least area and next to it, and of none; one level and many, both memory formats."""
    rng = np.random.default_rng(2)
    pyramid = [feature_map(rng, 2, 3, 32 >> level, 40 >> level) for level in range(4)]
    scales = [0.25, 0.125, 0.0625, 0.03125]
    side = 112.0
    below = np.nextafter(np.float32(side), np.float32(0))
    at_bounds = _rois(
        (0, 0, 0, side, side), (1, 0, 0, below, side), (0, 0, 0, side, below), (1, 3, 2, 3 + 2 * side, 2 + side / 2),
        (0, -60, -60, 4 * side - 60, 4 * side - 60), (1, 0, 0, 1e9, 1e9), (0, 0, 0, 1e30, 1e30), (1, 5, 5, 5, 5),
        (0, side, side, 0, 0), (1, side, 0, 0, side),
    )  # fmt: skip
    rois = np.concatenate([random_rois(rng, 12, 2, 128, 160, most=4.0), random_rois(rng, 12, 2, 128, 160, most=0.5)])

    def case(name: str, maps: list[Array], boxes: Array, *options: Any, **named: Any) -> Case:
        return Case(name, (maps, boxes, *options), named, terms=4)

    return [
        case("few", pyramid[:2], rois[:4], 2, scales[:2]),
        case("four-levels", pyramid, rois, (3, 2), scales),
        case("at-bounds", pyramid, at_bounds, 2, scales, 2, False),
        case("adaptive", pyramid, rois, 2, scales, 0),
        case("one-level", pyramid[1:2], rois, 2, scales[1:2]),
        case("wild", pyramid, np.concatenate([WILD, HUGE]), 2, scales),
        case("no-rois", pyramid, _rois(), 7, scales),
        case("canonical", pyramid, rois, 2, scales, canonical_size=56, canonical_level=3, min_level=1),
        case("levels-far-away", pyramid, rois, 2, scales, canonical_level=2000, min_level=-2000),
        case("boxes-in-the-dtype", pyramid, rois.astype(np.float64), 2, scales),
    ]


def _unfinite(rng: np.random.Generator) -> Array:
    image = feature_map(rng, 1, 3, 12, 40)
    image[0, 0, 3, 5], image[0, 0, 8, 30], image[0, 1, 6, 20] = NAN, INF, -INF
    return image


def _align(
    name: str,
    input: Array,
    boxes: Array,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Case:
    return Case(name, (input, boxes, output_size, spatial_scale, sampling_ratio, aligned), terms=4)
