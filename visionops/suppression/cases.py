"""The inputs that tests and benchmarks of the suppression operations draw from.

Float64 arrays are rounded to the dtype under test; integer arrays are passed as they are. Index results are exact, so
any input is legal here, the more so one whose decision hangs on the last bit.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.boxes.random_boxes import INTEGERS, clustered_boxes, integer_boxes, scattered_boxes, uniform_boxes
from visionops.suppression.hard_boxes import (
    EXACT_PAIRS,
    GENERATORS,
    INF,
    NAN,
    WILD_BOXES,
    descending,
    lattice,
    razor_pairs,
    replaced,
)
from visionops.suppression.rescoring_cases import mask_matrix_nms, matrix_nms, soft_nms
from visionops.testing import Case

__all__ = ["batched_nms", "fast_nms", "mask_matrix_nms", "matrix_nms", "nms", "soft_nms"]

Array = npt.NDArray[Any]


def nms() -> list[Case]:
    """Exact thresholds, ties, wild values, the options, integer boxes, and crowds up to 2,500 boxes."""
    few = np.array([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [30.0, 0.0, 35.0, 5.0]])
    cases = [_case("few", few, np.array([0.5, 0.75, 0.25]), 0.5)]
    cases += _thresholds() + _ties() + _wild() + _options() + _integers()
    for name, generate in GENERATORS.items():
        rng = np.random.default_rng(20)
        for n, threshold in ((10, 0.5), (100, 0.3), (1000, 0.5), (2500, 0.4)):
            cases.append(_case(f"{name}-{n}", generate(rng, n), rng.random(n), threshold))
    return cases + _crowds()


def batched_nms() -> list[Case]:
    """Class ids of every kind, nms's own difficulties within classes, and crowds up to 2,500 boxes."""
    few = np.array([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [0.0, 0.0, 10.0, 9.0]])
    cases = [_case("few", few, np.array([0.5, 0.75, 0.25]), np.array([0, 1, 0]), 0.5)]
    cases += _class_ids() + _batched_options()
    rng = np.random.default_rng(30)
    for case in [*_thresholds(), *_ties(), *_wild(), *_integers()]:
        boxes, scores, threshold = case.args
        classes = rng.integers(3, size=len(boxes))
        cases.append(Case(f"nms-{case.name}", (boxes, scores, classes, threshold), case.kwargs))
    for name, generate in GENERATORS.items():
        for n, count, threshold in ((10, 2, 0.5), (100, 3, 0.3), (1000, 5, 0.7), (1001, 80, 0.5), (2500, 80, 0.45)):
            classes = rng.integers(count, size=n)
            cases.append(_case(f"{name}-{n}x{count}", generate(rng, n), rng.random(n), classes, threshold))
    return [*cases, _case("clustered-2500x2", clustered_boxes(rng, 2500), rng.random(2500), np.arange(2500) % 2, 0.5)]


def fast_nms() -> list[Case]:
    """What nms meets, and batched_nms with its classes, up to 300 boxes: the reference holds the whole IoU matrix."""
    cases = []
    for source in (nms(), [case for case in batched_nms() if not case.name.startswith("nms-")]):
        for case in source:
            *arrays, threshold = case.args
            if len(arrays[0]) <= 300:
                name = case.name if len(arrays) == 2 else f"batched-{case.name}"
                cases.append(Case(name, tuple(arrays), {"iou_threshold": threshold, **case.kwargs}))
    return cases


def _case(name: str, *args: Any, **kwargs: Any) -> Case:
    return Case(name, args, kwargs)


def _thresholds() -> list[Case]:
    """IoU exactly at the threshold and one step of either dtype beside it, thresholds 0 and 1."""
    cases = []
    for name, pair in EXACT_PAIRS.items():
        numerator, denominator = map(int, name.split("/"))
        exact = numerator / denominator
        beside = [exact, np.nextafter(exact, 0), np.nextafter(exact, 1)]
        beside += [float(np.nextafter(np.float32(exact), np.float32(side))) for side in (0, 1)]
        for step, threshold in enumerate(beside):
            boxes = np.array(pair, dtype=np.float64)
            cases.append(_case(f"iou-{name}-step-{step}", boxes, np.array([2.0, 1.0]), float(threshold)))
    rng = np.random.default_rng(21)
    grid = lattice(rng, 200)
    for threshold in (0.0, 0.2, 0.25, 1 / 3, 0.5, 0.6, 0.7, 1.0):
        scores = rng.random(200)
        cases.append(_case(f"lattice-{threshold:.2f}", grid, scores, threshold))
        # Tenths are inexact: which side of the threshold such an IoU falls on is a matter of single roundings.
        cases.append(_case(f"tenths-{threshold:.2f}", grid / 10 + 0.3, scores, threshold))
    for threshold in (0.5, 2 / 3, 0.75):
        name = f"tenths-{threshold:.2f}-offset"
        cases.append(_case(name, grid / 10 + 0.3, rng.random(200), threshold, pixel_offset=1))
    for ratio in (0.3, 0.5, 0.7):
        pairs = razor_pairs(rng, 200, ratio)
        cases.append(_case(f"razor-{ratio}", pairs, descending(400), ratio))
        inclusive = np.subtract(pairs, [0.0, 0.0, 1.0, 1.0])
        cases.append(_case(f"razor-{ratio}-offset", inclusive, descending(400), ratio, pixel_offset=1))
    return cases


def _ties() -> list[Case]:
    rng = np.random.default_rng(22)
    same = np.tile([2.0, 3.0, 11.0, 9.0], (17, 1))
    apart = np.arange(65)[:, None] * [20.0, 0.0, 20.0, 0.0] + [0.0, 0.0, 10.0, 10.0]
    signs = np.where(np.arange(65) % 3 == 0, -0.0, 0.0)
    crowd = clustered_boxes(rng, 300, objects=8)
    among = np.where(np.arange(65) % 5 == 0, 0.25 * (np.arange(65) % 3 - 1), signs)
    chain = np.arange(65)[:, None] * [4.0, 0.0, 4.0, 0.0] + [0.0, 0.0, 12.0, 5.0]
    return [
        _case("empty", np.empty((0, 4)), np.empty(0), 0.5),
        _case("one", same[:1], np.array([0.5]), 0.5),
        _case("duplicates", same, descending(17)[::-1].copy(), 0.5),
        _case("duplicates-tied", same, np.full(17, 0.5), 0.5),
        _case("duplicates-threshold-1", same, np.full(17, 0.5), 1.0),
        _case("signed-zeros", apart, signs, 0.5),
        _case("signed-zeros-duplicates", same, signs[:17], 0.5),
        _case("signed-zeros-among", apart, among, 0.5),
        _case("crowd-tied", crowd, np.full(300, 0.5), 0.4),
        _case("crowd-few-scores", crowd, rng.integers(4, size=300) / 4, 0.4),
        _case("negative-scores", crowd, rng.normal(size=300), 0.4),
        # Each box overlaps only its neighbours, so each decision waits for the one before it.
        _case("chain", chain, descending(65), 0.4),
        _case("chain-upwards", chain, descending(65)[::-1].copy(), 0.4),
        _case("threshold-0-touching", np.array([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0]]), np.ones(2), 0.0),
    ]


def _wild() -> list[Case]:
    """NaN, infinite, inverted, empty, overflowing and vanishing boxes; NaN and infinite scores."""
    rng = np.random.default_rng(23)
    crowd = clustered_boxes(rng, 65, objects=4)
    scores = rng.random(65)
    cases = [_case(f"{name}-box", replaced(crowd, [5, 40], box), scores, 0.3) for name, box in WILD_BOXES.items()]
    cases += [
        _case("nan-scores", crowd, replaced(scores, [0, 7, 64], NAN), 0.3),
        _case("infinite-scores", crowd, replaced(replaced(scores, [1, 9], INF), [2, 30], -INF), 0.3),
        _case("all-scores-nan", crowd, np.full(65, NAN), 0.3),
        _case("all-scores-infinite", crowd, np.where(scores < 0.5, INF, -INF), 0.3),
        _case("all-boxes-nan", np.full((17, 4), NAN), scores[:17], 0.3),
        _case("all-wild", np.array([*WILD_BOXES.values()] * 2), descending(2 * len(WILD_BOXES)), 0.3),
        _case("all-wild-threshold-0", np.array([*WILD_BOXES.values()] * 2), descending(2 * len(WILD_BOXES)), 0.0),
    ]
    # Areas or their sum leave float32's range, or fall among its denormals, where float64 still decides.
    for scale in (1e-24, 1e-22, 1e-21, 1e-20, 1e17, 1.5e18, 1e19, 1e30, 1e154):
        cases.append(_case(f"scale-{scale:g}", lattice(rng, 33) * scale, rng.random(33), 0.4))
    half = np.array([[-25_000.0, -25_000.0, 25_000.0, 25_000.0], [-25_000.0, -25_000.0, 25_000.0, 20_000.0]])
    return [*cases, _case("half-large", half, np.array([1.0, 2.0]), 0.85)]


def _options() -> list[Case]:
    rng = np.random.default_rng(24)
    crowd = clustered_boxes(rng, 300, objects=12)
    scores = rng.random(300)
    tied = rng.integers(4, size=300) / 4
    apart = np.arange(5)[:, None] * [20.0, 0.0, 20.0, 0.0] + [0.0, 0.0, 10.0, 10.0]
    cases = [_case(f"max-output-{k}", crowd, scores, 0.4, max_output=k) for k in (0, 1, 2, 17, 300, 1000)]
    cases += [_case(f"score-threshold-{t:g}", crowd, scores, 0.4, score_threshold=t) for t in (-1.0, 0.0, 0.5, 1.0)]
    # 0.3 is no float: the threshold is rounded to float32, the scores to their own dtype, and equal is not enough.
    cases += [_case(f"score-at-{t:g}", apart, np.full(5, t), 0.4, score_threshold=t) for t in (0.0, 0.3, 0.5, 0.7)]
    cases += [
        _case("score-at-zero-signed", apart, np.array([-0.0, 0.0, -0.0, 0.5, -0.5]), 0.4, score_threshold=-0.0),
        _case("score-above-minus-inf", apart, np.array([-INF, 0.0, INF, NAN, -1.0]), 0.4, score_threshold=-INF),
        _case("score-above-inf", apart, np.array([-INF, 0.0, INF, NAN, -1.0]), 0.4, score_threshold=INF),
        _case("score-threshold-tied", crowd, tied, 0.4, score_threshold=0.25, max_output=9),
        _case("max-output-tied", crowd, tied, 0.4, max_output=9),
        _case("max-output-empty", np.empty((0, 4)), np.empty(0), 0.5, max_output=3),
        _case("offset", crowd, scores, 0.4, pixel_offset=1),
        _case("offset-all", crowd, scores, 0.4, score_threshold=0.2, max_output=20, pixel_offset=1),
    ]
    # With inclusive pixels a point has area 1 and boxes a pixel apart touch.
    inclusive = np.concatenate([lattice(rng, 100), np.tile([3.0, 3.0, 3.0, 3.0], (3, 1)), [[4.5, 2.0, 4.0, 6.0]]])
    cases += [_case(f"offset-lattice-{t}", inclusive, rng.random(104), t, pixel_offset=1) for t in (0.0, 0.25, 0.5)]
    return cases


def _integers() -> list[Case]:
    """Boxes of each integer dtype over its whole range and in a crowd; areas beyond int32."""
    rng = np.random.default_rng(25)
    cases = []
    for dtype in INTEGERS:
        low, high = max(int(np.iinfo(dtype).min), -(2**40)), min(int(np.iinfo(dtype).max), 2**40)
        wide = integer_boxes(rng, 65, dtype, low, high)
        cases.append(_case(dtype.__name__, wide, rng.random(65), 0.3))
        cases.append(_case(f"{dtype.__name__}-small", integer_boxes(rng, 65, dtype, 0, 9), rng.random(65), 0.25))
        cases.append(_case(f"{dtype.__name__}-offset", wide, rng.random(65), 0.3, pixel_offset=1))
    exact = np.array([[0, 0, 50_000, 50_000], [0, 0, 50_000, 25_000], [50_000, 0, 90_000, 50_000]], np.int32)
    cases.append(_case("int32-50000-at", exact, np.array([3.0, 2.0, 1.0]), 0.5))
    return [*cases, _case("int32-50000-below", exact, np.array([3.0, 2.0, 1.0]), 0.49)]


def _crowds() -> list[Case]:
    """Large enough for a kernel's spatial grid, each in a way that a careless grid gets wrong."""
    rng = np.random.default_rng(26)
    crowd = clustered_boxes(rng, 1001, objects=5, crowd=1.0)
    boxes, scores = scattered_boxes(rng, 2500), rng.random(2500)
    wild = boxes.copy()
    wild[rng.choice(2500, 4 * len(WILD_BOXES), replace=False)] = [*WILD_BOXES.values()] * 4
    flat = uniform_boxes(rng, 1200, 6e4, 8)
    same_x = np.concatenate([np.tile([5.0, 95.0], (1200, 1)), flat[:, ::2]], axis=1)[:, [0, 2, 1, 3]]
    covering = np.concatenate([boxes[:1200], [[-2000.0, -2000.0, 4000.0, 4000.0]]])
    places = rng.integers(10, size=1200)[:, None] * [30.0, 10.0, 30.0, 10.0] + [0.0, 0.0, 12.0, 12.0]
    return [
        _case("crowd-1001", crowd, scores[:1001], 0.3),
        _case("wild-2500", wild, scores, 0.5),
        _case("threshold-0-2500", boxes, scores, 0.0),
        _case("threshold-1-600", boxes[:600], scores[:600], 1.0),
        _case("row-1200", flat, scores[:1200], 0.4),
        _case("column-1200", same_x, scores[:1200], 0.4),
        _case("negative-1200", boxes[:1200] - 5000.0, scores[:1200], 0.4),
        _case("covering-1201", covering, scores[:1201], 0.4),
        _case("duplicates-1200", places, scores[:1200], 0.5),
        _case("max-output-1200", boxes[:1200], scores[:1200], 0.5, max_output=100),
    ]


def _class_ids() -> list[Case]:
    rng = np.random.default_rng(31)
    same = np.tile([2.0, 3.0, 11.0, 9.0], (6, 1))
    crowd, scores = clustered_boxes(rng, 600, objects=4), rng.random(600)
    # torchvision's coordinate offset makes these two meet and keeps one.
    negative = np.tile([-100.0, -100.0, -90.0, -90.0], (2, 1))
    # Its offset rounds neighbouring classes together near 20,000, and one infinity moves all boxes to NaN.
    many = rng.permutation(np.arange(19_400, 20_000))
    one_inf = np.concatenate([same, [[0.0, 0.0, INF, 5.0]]])
    limits = np.array([2**62, 2**62 + 1, -(2**63), 2**63 - 1, 2**62, 0])
    return [
        _case("empty", np.empty((0, 4)), np.empty(0), np.empty(0, np.int64), 0.5),
        _case("one", same[:1], np.array([0.5]), np.array([7]), 0.5),
        _case("one-class", crowd, scores, np.full(600, 3), 0.4),
        _case("every-box-a-class", crowd, scores, rng.permutation(600), 0.4),
        _case("negative-coordinates", negative, np.array([0.5, 0.75]), np.array([0, 1]), 0.5),
        _case("duplicates-two-classes", same, np.full(6, 0.5), np.array([1, 0, 1, 0, 1, 0]), 0.5),
        _case("negative-ids", crowd, scores, rng.integers(-3, 3, size=600), 0.4),
        _case("huge-ids", same, descending(6), limits, 0.5),
        _case("huge-ids-crowd", crowd, scores, 2**62 + rng.integers(5, size=600), 0.4),
        # Equal in the low 32 bits, or apart by one in them: neither a hash nor a float32 may merge them.
        _case("ids-2**32-apart", crowd, scores, rng.integers(4, size=600) << 32, 0.4),
        _case("ids-near-20000", crowd, scores, many, 0.4),
        _case("20000-classes", crowd, scores, rng.integers(20_000, size=600), 0.4),
        _case("20000-classes-twice", np.repeat(crowd[:300], 2, axis=0), scores, np.repeat(many[:300], 2), 0.4),
        _case("one-inf", one_inf, descending(7), np.array([0, 1, 0, 1, 0, 1, 1]), 0.5),
        _case("one-inf-first", one_inf[::-1].copy(), descending(7), np.array([0, 1, 0, 1, 0, 1, 1]), 0.5),
        _case("uneven", crowd, scores, (rng.random(600) < 0.02).astype(np.int64), 0.4),
    ]


def _batched_options() -> list[Case]:
    rng = np.random.default_rng(32)
    crowd = clustered_boxes(rng, 300, objects=6)
    scores, tied, classes = rng.random(300), rng.integers(4, size=300) / 4, rng.integers(-2, 5, size=300)
    cases = [_case(f"max-output-{k}", crowd, scores, classes, 0.4, max_output=k) for k in (0, 1, 2, 17, 300, 1000)]
    return [
        *cases,
        _case("max-output-tied", crowd, tied, classes, 0.4, max_output=9),
        _case("score-threshold-tied", crowd, tied, classes, 0.4, score_threshold=0.25),
        _case("score-threshold-all", crowd, scores, classes, 0.4, score_threshold=1.0),
        _case("score-at-0.3", crowd, np.full(300, 0.3), classes, 0.4, score_threshold=0.3),
        _case("offset", crowd, scores, classes, 0.4, pixel_offset=1),
        _case("offset-all", crowd, scores, classes, 0.4, score_threshold=0.2, max_output=20, pixel_offset=1),
        _case("nan-scores", crowd, replaced(scores, [0, 7, 64, 299], NAN), classes, 0.4, max_output=50),
    ]
