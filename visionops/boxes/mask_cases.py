"""The inputs that tests of the mask operations draw from."""

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.boxes.random_boxes import INTEGERS, uniform_boxes
from visionops.testing import Case

Array = npt.NDArray[Any]


def masks_to_boxes() -> list[Case]:
    """Blobs, single pixels, full, empty and absent masks in bool, integer and float."""
    rng = np.random.default_rng(4)
    few = np.zeros((3, 5, 7), np.bool_)
    few[0, 1:4, 2:6] = True
    few[1, 4, 6] = True
    corners = np.zeros((4, 33, 65), np.bool_)
    corners[range(4), [0, 0, 32, 32], [0, 64, 0, 64]] = True
    blobs = np.zeros((20, 100, 130), np.bool_)
    for mask, (x1, y1, x2, y2) in zip(blobs, uniform_boxes(rng, 20, 130, 100).astype(np.int64), strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = rng.random(mask[y1 : y2 + 1, x1 : x2 + 1].shape) < 0.3
    cases = [
        _case("few", few),
        _case("no-mask", np.zeros((0, 5, 7), np.bool_)),
        _case("no-rows", np.zeros((2, 0, 7), np.bool_)),
        _case("no-columns", np.zeros((2, 5, 0), np.bool_)),
        _case("one-pixel", np.ones((1, 1, 1), np.bool_)),
        _case("all-empty", np.zeros((3, 17, 16), np.bool_)),
        _case("full", np.ones((2, 17, 65), np.bool_)),
        _case("corners", corners),
        _case("blobs", blobs),
        _case("float64", few * rng.uniform(-1.0, 1.0, size=few.shape)),
    ]
    cases += [_case(f"width-{w}", np.eye(15, w, dtype=np.bool_)[None]) for w in (15, 16, 17, 65)]
    return cases + [_case(dtype.__name__, few.astype(dtype) * dtype(3)) for dtype in INTEGERS]


def mask_iou() -> list[Case]:
    """Blobs, nested, equal, disjoint, full and empty masks; sizes around a word of bits; every dtype of pixels."""
    rng = np.random.default_rng(5)
    blobs = _blobs(rng, 37, 50, 70)
    few = blobs[:5, :9, :13]
    # A row of bits that fills words exactly, one bit less and more, and several words.
    widths = [_case(f"width-{w}", rng.random((3, 1, w)) < 0.5, rng.random((4, 1, w)) < 0.5) for w in (63, 64, 65, 1000)]
    related = np.zeros((6, 20, 30), np.bool_)
    for mask, (top, bottom) in zip(related, [(0, 20), (5, 12), (5, 12), (12, 15), (19, 20), (3, 3)], strict=True):
        mask[top:bottom] = True
    return [
        _case("few", few, blobs[5:8, :9, :13]),
        _case("related", related, related),
        _case("blobs", blobs, _blobs(rng, 19, 50, 70)),
        _case("dense", rng.random((33, 40, 41)) < 0.5, rng.random((18, 40, 41)) < 0.9),
        _case("no-mask", few[:0], few),
        _case("no-other-mask", few, few[:0]),
        _case("no-pixels", few[:, :0], few[:2, :0]),
        *widths,
        # NaN is a pixel of the mask, -0.0 is none.
        _case("float64", np.where(few, np.nan, -0.0), few * rng.uniform(-1.0, 1.0, few.shape)),
        *(_case(dtype.__name__, few.astype(dtype) * dtype(3), few.astype(dtype)) for dtype in INTEGERS),
    ]


def _blobs(rng: np.random.Generator, n: int, height: int, width: int) -> Array:
    """N masks (n, height, width), each a speckled box."""
    blobs = np.zeros((n, height, width), np.bool_)
    for mask, (x1, y1, x2, y2) in zip(blobs, uniform_boxes(rng, n, width, height).astype(np.int64), strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = rng.random(mask[y1 : y2 + 1, x1 : x2 + 1].shape) < 0.8
    return blobs


def _case(name: str, *masks: Array) -> Case:
    """A case without options."""
    return Case(name, masks)
