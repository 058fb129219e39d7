"""The inputs that tests and benchmarks of the box operations draw from.

Float64 arrays are rounded to the dtype under test; integer and bool arrays are passed as they are. The reference works
in float64 and a kernel may work in float32, so no case has a pair of boxes whose areas overflow or vanish in float32
alone and would count there: such boxes meet only partners with which both ways of computing give the same.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.boxes.mask_cases import mask_iou as mask_iou
from visionops.boxes.mask_cases import masks_to_boxes as masks_to_boxes
from visionops.boxes.random_boxes import (
    INTEGERS,
    clustered_boxes,
    largest_side,
    scattered_boxes,
    uniform_boxes,
    whole_boxes,
)
from visionops.boxes.special_boxes import (
    INF,
    NAN,
    RELATED,
    far,
    half_denormal,
    half_large,
    inverted,
    with_inf,
    with_nan,
    zero_area,
)
from visionops.testing import Case

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]

MODES = ("iou", "giou", "diou", "ciou", "iof")


def box_convert() -> list[Case]:
    """All nine pairs of formats, and integer boxes of every dtype."""
    formats = ("xyxy", "xywh", "cxcywh")
    few = RELATED[:2]
    wild = np.concatenate([zero_area(), inverted(), with_nan(), with_inf(), far(), RELATED])
    cases = [_case(f"few-{i}-{o}", few, i, o) for i in formats for o in formats]
    cases += [_case(f"empty-{i}-{o}", np.empty((0, 4)), i, o) for i in formats for o in formats]
    cases += [_case(f"wild-{i}-{o}", wild, i, o) for i in formats for o in formats]
    rng = np.random.default_rng(0)
    for n in (15, 16, 17, 65, 300):
        cases += [_case(f"uniform-{n}-{i}-{o}", uniform_boxes(rng, n), i, o) for i, o in _neighbours(formats)]
    cases.append(_case("batch", uniform_boxes(rng, 12).reshape(2, 3, 2, 4), "xyxy", "cxcywh"))
    for dtype in INTEGERS:
        whole = whole_boxes(rng, dtype, 9)
        cases += [_case(f"{dtype.__name__}-{i}-{o}", whole, i, o) for i, o in _neighbours(formats)]
    return cases


def box_area() -> list[Case]:
    """Ordinary, degenerate and wild boxes with both pixel conventions."""
    rng = np.random.default_rng(1)
    inputs: dict[str, Array] = {
        "few": RELATED[:2],
        "empty": np.empty((0, 4)),
        "related": RELATED,
        "zero-area": zero_area(),
        "inverted": inverted(),
        "nan": with_nan(),
        "inf": with_inf(),
        "half-large": half_large(),
        "half-denormal": half_denormal(),
        "overflowing": np.array([[-1e30, -1e30, 1e30, 1e30], [-1e18, 0.0, 1e18, 1e18]]),
        "batch": uniform_boxes(rng, 12, 60, 60).reshape(2, 3, 2, 4),
        "empty-batch": np.empty((0, 3, 4)),
    }
    inputs |= {f"uniform-{n}": uniform_boxes(rng, n, 250, 250) for n in (15, 16, 17, 65, 300)}
    inputs |= {dtype.__name__: whole_boxes(rng, dtype, 9) for dtype in INTEGERS}
    inputs["int32-50000"] = np.array([[0, 0, 50_000, 50_000]], np.int32)
    cases = [_case(name, boxes) for name, boxes in inputs.items()]
    return cases + [_case(f"{name}-offset", boxes, pixel_offset=1) for name, boxes in inputs.items()]


def clip_boxes_to_image() -> list[Case]:
    """Boxes inside, across and outside the image, and integer dtypes narrower than its size."""
    rng = np.random.default_rng(2)
    across = uniform_boxes(rng, 65, 2000, 1600) - 400.0
    cases = [
        _case("few", np.array([[-5.0, 2.0, 30.0, 70.0], [10.0, -20.0, 90.0, 15.0]]), (40, 60)),
        _case("empty", np.empty((0, 4)), (40, 60)),
        _case("empty-image", RELATED, (0, 0)),
        _case("related", RELATED, (10, 7)),
        _case("inverted", inverted(), (5, 6)),
        _case("nan", with_nan(), (5, 6)),
        _case("inf", with_inf(), (5, 6)),
        _case("half-large", half_large(), (800, 1333)),
        _case("across", across, (800, 1333)),
        _case("batch", across[:60].reshape(3, 4, 5, 4), (800, 1333)),
    ]
    cases += [_case(f"across-{n}", across[:n], (480, 640)) for n in (15, 16, 17)]
    for dtype in INTEGERS:
        cases.append(_case(dtype.__name__, whole_boxes(rng, dtype, 9), (40, 60)))
        cases.append(_case(f"{dtype.__name__}-wide", whole_boxes(rng, dtype, 9), (800, 1333)))
    # 2**60 + 1 is no float64: a detour over floats would change it.
    large = np.array([[-(2**60) - 1, 3, 2**60 + 1, 2**60 - 1]], np.int64)
    return [*cases, _case("int64-exact", large, (2**61, 2**61))]


def remove_small_boxes() -> list[Case]:
    """Sides below, at and above the bound, in quarters of a pixel, which every dtype holds exactly."""
    rng = np.random.default_rng(3)
    side = rng.integers(0, 33, size=(300, 2)) / 4
    low = rng.integers(0, 65, size=(300, 2)) / 4
    quarters = np.concatenate([low, low + side], axis=1)
    cases = [
        _case("few", quarters[:4], 3.0),
        _case("empty", np.empty((0, 4)), 3.0),
        _case("none-left", quarters[:17], 1000.0),
        _case("zero-bound", np.concatenate([zero_area(), inverted()]), 0.0),
        _case("negative-bound", inverted(), -1e9),
        _case("nan", with_nan(), 0.0),
        _case("inf", with_inf(), 1.0),
        _case("half-large", half_large(), 50_000.0),
    ]
    cases += [_case(f"quarters-{n}", quarters[:n], 2.25) for n in (15, 16, 17, 65, 300)]
    for dtype in INTEGERS:
        cases.append(_case(dtype.__name__, whole_boxes(rng, dtype, 33), 25.0))
        cases.append(_case(f"{dtype.__name__}-largest", whole_boxes(rng, dtype, 9), float(largest_side(dtype))))
    return cases


def box_iou() -> list[Case]:
    """Every mode, all pairs and aligned, both pixel conventions, batches, and integer boxes of every dtype."""
    few = few_pair()
    cases = [_case(f"few-{mode}", *few, mode=mode) for mode in MODES]
    cases += [_case(f"few-aligned-{mode}", few[0], few[1][:2], mode=mode, aligned=True) for mode in MODES]
    for name, pair in (_empty_pairs() | _named_pairs() | _sized_pairs()).items():
        cases += [_case(f"{name}-{mode}", *pair, mode=mode) for mode in MODES]
    for name, (a, b) in _meeting_pairs().items():
        aligned = np.repeat(a, len(b), axis=0), np.tile(b, (len(a), 1))
        cases += [_case(f"{name}-aligned-{mode}", *aligned, mode=mode, aligned=True) for mode in MODES]
        cases += [_case(f"{name}-offset-{mode}", a, b, mode=mode, pixel_offset=1) for mode in MODES]
    cases.append(_case("offset-aligned", few[0], few[1][:2], aligned=True, pixel_offset=1))
    cases += [_case(f"far-apart-{mode}", *_overflowing_apart(), mode=mode) for mode in ("iou", "iof")]
    # A first box whose area is a float32 denormal has no IoF there, and a flushed side no aspect.
    cases += [_case(f"denormal-{mode}", *_denormal(), mode=mode) for mode in ("iou", "giou", "diou")]
    return cases + _batched_iou() + _integer_iou()


def generalized_box_iou() -> list[Case]:
    """box_iou's inputs without its options."""
    return _plain_iou()


def distance_box_iou() -> list[Case]:
    """box_iou's inputs without its options."""
    return _plain_iou()


def complete_box_iou() -> list[Case]:
    """box_iou's inputs without its options."""
    return _plain_iou()


def wh_iou() -> list[Case]:
    """Ordinary, zero, negative, wild and integer sizes, and the nine anchors of a detector against its truths."""
    rng = np.random.default_rng(5)
    few = np.array([[3.0, 5.0], [8.0, 2.0]]), np.array([[4.0, 4.0], [2.0, 7.0], [10.0, 3.0]])
    degenerate = np.array([[0.0, 0.0], [0.0, 5.0], [-3.0, 5.0], [-2.0, -4.0], [3.0, 5.0]])
    wild = np.array([[NAN, 5.0], [3.0, NAN], [INF, 5.0], [INF, INF], [INF, 0.0], [-INF, 4.0], [3.0, 5.0]])
    sizes = np.exp(rng.uniform(0.0, 6.5, size=(317, 2)))
    cases = [
        _case("few", *few),
        _case("none-none", np.empty((0, 2)), np.empty((0, 2))),
        _case("none-some", np.empty((0, 2)), few[1]),
        _case("some-none", few[0], np.empty((0, 2))),
        _case("one", few[0][:1], few[0][:1]),
        _case("degenerate", degenerate, degenerate),
        _case("wild", wild, wild),
        _case("half-large", np.array([[50_000.0, 60_000.0]]), np.array([[60_000.0, 50_000.0], [1.0, 1.0]])),
        _case("overflowing", np.array([[1e30, 1e30]]), few[1]),
        _case("tiny", few[0] * 2.0**-24, few[1] * 2.0**-24),
        _case("batch", sizes[:6].reshape(2, 3, 2), sizes[6:16].reshape(2, 5, 2)),
        _case("broadcast", sizes[:6].reshape(2, 1, 3, 2), sizes[6:26].reshape(4, 5, 2)),
        _case("anchors", sizes[:9], sizes[9:309]),
    ]
    cases += [_case(f"sizes-{n}", sizes[:3], sizes[3 : 3 + n]) for n in (15, 16, 17, 65)]
    for dtype in INTEGERS:
        whole = rng.integers(0, np.iinfo(dtype).max // 2, size=(12, 2), dtype=dtype, endpoint=True)
        cases.append(_case(dtype.__name__, whole[:5], whole[3:]))
    return cases


def few_pair() -> Pair:
    """Two boxes and three, in general position: no two corners agree, so every mode is differentiable there."""
    first = np.array([[2.0, 3.0, 11.0, 9.0], [20.0, 4.0, 26.0, 17.0]])
    second = np.array([[5.0, 1.0, 14.0, 8.0], [22.0, 7.0, 31.0, 12.0], [1.0, 20.0, 7.0, 30.0]])
    return first, second


def _case(name: str, *args: Any, **kwargs: Any) -> Case:
    return Case(name, args, kwargs)


def _neighbours(names: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    """Each name with the next one and with the one before."""
    after = names[1:] + names[:1]
    return [*zip(names, after, strict=True), *zip(after, names, strict=True)]


def _denormal() -> Pair:
    """Boxes of float32 denormals as the second side only."""
    tiny = 1e-40
    return RELATED[:4], np.array([[tiny, tiny, 9 * tiny, 4 * tiny], [tiny, tiny, 5.0, 5.0], [-tiny, 0.0, tiny, tiny]])


def _overflowing_apart() -> Pair:
    return np.array([[1e30, 1e30, 2e30, 3e30]]), np.array([[-2e30, -1e30, -1e30, 1e30], [0.0, 0.0, 5.0, 5.0]])


def _empty_pairs() -> dict[str, Pair]:
    none = np.empty((0, 4))
    return {"none-none": (none, none), "none-some": (none, RELATED), "some-none": (RELATED, none)}


def _meeting_pairs() -> dict[str, Pair]:
    """The pairs worth trying aligned and with a pixel offset too."""
    return {
        "one": (RELATED[:1], RELATED[:1]),
        "related": (RELATED, RELATED),
        "zero-area": (zero_area(), np.concatenate([zero_area(), RELATED[:3]])),
        "inverted": (inverted(), np.concatenate([inverted(), RELATED[:3]])),
        "nan": (np.concatenate([with_nan(), RELATED[:2]]), np.concatenate([with_nan(), RELATED[:2]])),
        "inf": (np.concatenate([with_inf(), RELATED[:2]]), np.concatenate([with_inf(), RELATED[:2]])),
        "half-large": (half_large(), half_large()),
    }


def _named_pairs() -> dict[str, Pair]:
    everything = np.array([[-1e30, -1e30, 1e30, 1e30]])
    around_origin = np.array([[-4.0, -3.0, 4.0, 3.0], [-2.0, -8.0, 6.0, 9.0]])
    return _meeting_pairs() | {
        "half-denormal": (half_denormal(), half_denormal()),
        "small": (RELATED * 1e-15, RELATED * 1e-15),
        "big": (RELATED * 1e17, RELATED * 1e17),
        "overflowing": (everything, around_origin),
        "overflowed": (around_origin, everything),
        "far": (far(), far()),
    }


def _sized_pairs() -> dict[str, Pair]:
    rng = np.random.default_rng(7)
    pairs: dict[str, Pair] = {}
    for n, m in ((3, 15), (2, 16), (3, 17), (17, 15), (5, 65), (65, 1)):
        pairs[f"uniform-{n}x{m}"] = uniform_boxes(rng, n), uniform_boxes(rng, m)
    pairs["clustered-130x210"] = clustered_boxes(rng, 130, objects=8), clustered_boxes(rng, 210, objects=8)
    pairs["scattered-65x300"] = scattered_boxes(rng, 65), scattered_boxes(rng, 300)
    return pairs


def _batched_iou() -> list[Case]:
    rng = np.random.default_rng(8)
    boxes = clustered_boxes(rng, 60, objects=2)
    a, b = boxes[:30].reshape(2, 3, 5, 4), boxes[30:].reshape(2, 3, 5, 4)
    cases = []
    for mode in MODES:
        cases.append(_case(f"batch-{mode}", a[0], b[0, :, :4], mode=mode))
        cases.append(_case(f"batch-broadcast-{mode}", a[:, :1], b[0], mode=mode))
        cases.append(_case(f"batch-one-sided-{mode}", a, b[0, 0], mode=mode))
        cases.append(_case(f"batch-aligned-{mode}", a, b[0], mode=mode, aligned=True))
    cases.append(_case("empty-batch", np.empty((0, 3, 4)), np.empty((0, 2, 4))))
    return [*cases, _case("batch-of-none", np.empty((2, 0, 4)), np.empty((2, 5, 4)))]


def _integer_iou() -> list[Case]:
    rng = np.random.default_rng(9)
    cases = []
    for dtype in INTEGERS:
        a, b = whole_boxes(rng, dtype, 7), whole_boxes(rng, dtype, 17)
        cases += [_case(f"{dtype.__name__}-{mode}", a, b, mode=mode) for mode in MODES]
        cases.append(_case(f"{dtype.__name__}-offset", a, b, pixel_offset=1))
        cases.append(_case(f"{dtype.__name__}-aligned", a, b[:7], aligned=True))
    # torchvision gives -1.0033 for the first and a negative area for the second.
    cases.append(_case("uint8-disjoint", *_apart(np.uint8)))
    wide = np.array([[0, 0, 50_000, 50_000], [25_000, 0, 75_000, 50_000]], np.int32)
    return [*cases, *(_case(f"int32-50000-{mode}", wide, wide, mode=mode) for mode in MODES)]


def _plain_iou() -> list[Case]:
    pairs = {"few": few_pair()} | _empty_pairs() | _named_pairs() | _sized_pairs()
    rng = np.random.default_rng(10)
    pairs |= {dtype.__name__: (whole_boxes(rng, dtype, 7), whole_boxes(rng, dtype, 17)) for dtype in INTEGERS}
    batch = clustered_boxes(rng, 40, objects=2).reshape(2, 2, 10, 4)
    pairs |= {"batch": (batch[0], batch[1]), "batch-broadcast": (batch[:, :1], batch[0, :, :7])}
    return [_case(name, *pair) for name, pair in pairs.items()]


def _apart(dtype: type[np.integer[Any]]) -> Pair:
    return np.array([[0, 0, 10, 10]], dtype), np.array([[100, 100, 120, 120], [10, 0, 20, 10]], dtype)
