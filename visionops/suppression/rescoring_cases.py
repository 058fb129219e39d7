"""The inputs that tests of the suppressions draw from which lower scores instead of dropping boxes.

Which box comes next hangs on scores that each dtype decays with roundings of its own. So boxes and scores are such as
every dtype holds exactly, and where two scores that compete come closer than roundings reach, one box is taken out.
"""

from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.boxes.random_boxes import INTEGERS, clustered_boxes, integer_boxes
from visionops.suppression import reference
from visionops.suppression.hard_boxes import GENERATORS, INF, NAN, WILD_BOXES, descending
from visionops.testing import Case

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

CLOSE = 2e-5  # relative: scores closer than this may change places by roundings in float32


@cache
def soft_nms() -> list[Case]:
    """Both methods on crowds with and without classes, duplicates, wild values, the options, integer boxes."""
    few = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [30.0, 0.0, 35.0, 5.0]])
    cases = [Case("few", (few, np.array([0.5, 0.75, 0.25])))]
    for method in ("linear", "gaussian"):
        cases += _soft_crowds(method) + _hard_inputs(method=method)
    rng = np.random.default_rng(41)
    boxes, scores = _short(clustered_boxes(rng, 150, objects=6)), _short(rng.random(150))
    several: list[dict[str, Any]] = [
        {"iou_threshold": 0.0},
        {"iou_threshold": 1.0},
        {"iou_threshold": 0.7, "score_threshold": 0.25},
        {"method": "gaussian", "sigma": 0.125},
        {"method": "gaussian", "sigma": 8.0, "score_threshold": 0.4},
        {"method": "gaussian", "sigma": 1e-40},  # its inverse is beyond float32
        {"pixel_offset": 1},
        {"method": "gaussian", "pixel_offset": 1, "max_output": 40},
    ]
    for options in several:
        cases.append(_settled_soft(" ".join(f"{k}={v}" for k, v in options.items()), boxes, scores, **options))
    return cases


@cache
def matrix_nms() -> list[Case]:
    """Both kernels on crowds with and without classes, duplicates, wild values, the options, integer boxes."""
    few = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [0.0, 1.0, 10.0, 9.0], [30.0, 0.0, 35.0, 5.0]])
    cases = [Case("few", (few, np.array([0.5, 0.75, 0.625, 0.25])))]
    for kernel in ("gaussian", "linear"):
        cases += _matrix_crowds(kernel) + _hard_inputs(kernel=kernel)
    rng = np.random.default_rng(42)
    boxes, scores = _short(clustered_boxes(rng, 150, objects=6)), _short(rng.random(150))
    several: list[dict[str, Any]] = [
        {"sigma": 0.5},
        {"sigma": 16.0, "score_threshold": 0.25},
        {"sigma": 1e40, "score_threshold": 0.25},  # beyond float32
        {"kernel": "linear", "score_threshold": 0.125, "max_output": 30},
        {"pixel_offset": 1},
    ]
    for options in several:
        cases.append(_settled_matrix(" ".join(f"{k}={v}" for k, v in options.items()), boxes, scores, **options))
    return cases


@cache
def mask_matrix_nms() -> list[Case]:
    """Both kernels on blobs with and without classes, nested and empty masks, every dtype of pixels."""
    rng = np.random.default_rng(43)
    masks, classes = _blobs(rng, 60, 25, 37), rng.integers(3, size=60)
    scores = _short(rng.random(60))
    same = np.repeat(masks[:1], 3, axis=0)
    nothing = masks[:0].reshape(0, 5, 7)
    cases = [
        Case("few", (masks[:5], scores[:5])),
        Case("no-mask", (nothing, scores[:0])),
        Case("no-pixels", (masks[:4, :0], descending(4))),
        Case("one", (masks[:1], scores[:1])),
        Case("duplicates", (same, np.array([0.5, 0.75, 0.25]))),
        Case("empty-masks", (np.zeros((3, 4, 5), np.bool_), descending(3))),
        Case("wild-scores", (masks[:6], np.array([NAN, INF, -INF, 0.5, -0.5, -0.0]))),
        Case("floating-masks", (masks[:9] * rng.uniform(0.5, 1.0, (9, 25, 37)).astype(np.float32), scores[:9])),
        *(Case(dtype.__name__, (masks[:9].astype(dtype), scores[:9])) for dtype in INTEGERS),
    ]
    settled = partial(_settled, reference.mask_matrix_nms)
    for kernel in ("gaussian", "linear"):
        cases += [
            Case(f"duplicates-{kernel}", (same, np.array([0.5, 0.75, 0.25])), {"kernel": kernel}),
            settled(f"blobs-{kernel}", masks, scores, kernel=kernel),
            settled(f"blobs-{kernel}-classes", masks, scores, classes, kernel=kernel, score_threshold=0.125),
            settled(f"blobs-{kernel}-best", masks, scores, kernel=kernel, sigma=1.0, max_output=10),
        ]
    return cases


def _soft_crowds(method: str) -> list[Case]:
    cases = []
    for name, generate in GENERATORS.items():
        rng = np.random.default_rng(44)
        for n in (10, 65, 300, 700) if name == "clustered" else (10, 65, 300):
            boxes, scores = _short(generate(rng, n)), _short(rng.random(n))
            cases.append(_settled_soft(f"{name}-{n}-{method}", boxes, scores, method=method))
            ids = rng.integers(5, size=n)
            cases.append(_settled_soft(f"{name}-{n}-{method}-classes", boxes, scores, ids, method=method))
    return cases + [_settled_soft(*many, method=method) for many in _many_classes(method)]


def _matrix_crowds(kernel: str) -> list[Case]:
    cases = []
    for name, generate in GENERATORS.items():
        rng = np.random.default_rng(45)
        for n in (10, 65, 300):
            boxes, scores = _short(generate(rng, n)), _short(rng.random(n))
            cases.append(_settled_matrix(f"{name}-{n}-{kernel}", boxes, scores, kernel=kernel))
            ids = rng.integers(5, size=n)
            cases.append(_settled_matrix(f"{name}-{n}-{kernel}-classes", boxes, scores, ids, kernel=kernel))
    return cases + [_settled_matrix(*many, kernel=kernel) for many in _many_classes(kernel)]


def _many_classes(name: str) -> list[tuple[str, Float64, Float64, Array]]:
    rng = np.random.default_rng(46)
    boxes, scores = _short(clustered_boxes(rng, 300, objects=4)), _short(rng.random(300))
    near = np.repeat(rng.permutation(np.arange(19_850, 20_000)), 2)
    return [
        (f"20000-classes-{name}", boxes, scores, rng.integers(20_000, size=300)),
        (f"20000-classes-twice-{name}", np.repeat(boxes[:150], 2, axis=0), scores, near),
        (f"ids-2**32-apart-{name}", boxes, scores, rng.integers(4, size=300) << 32),
        (f"huge-ids-{name}", boxes, scores, 2**62 + rng.integers(5, size=300)),
    ]


def _hard_inputs(**method: str) -> list[Case]:
    """Ties, duplicates, wild values and integers: of few boxes, whose scores stay apart or are tied for good."""
    rng = np.random.default_rng(47)
    (name,) = method.values()
    same = np.tile([2.0, 3.0, 11.0, 9.0], (7, 1))
    apart = np.arange(9)[:, None] * [20.0, 0.0, 20.0, 0.0] + [0.0, 0.0, 10.0, 10.0]
    wild = np.array([*WILD_BOXES.values()] * 2)
    cases = [
        ("empty", np.empty((0, 4)), np.empty(0)),
        ("one", same[:1], np.array([0.5])),
        ("three-duplicates", same[:3], np.array([0.5, 0.75, 0.25])),
        ("duplicates-tied", same, np.full(7, 0.5)),
        ("apart-tied", apart, np.full(9, 0.5)),
        ("zero-scores", apart, np.where(np.arange(9) % 2 == 0, 0.0, -0.0)),
        ("negative-scores", apart, np.arange(-4.0, 5.0)),
        ("wild-scores", apart, np.array([NAN, INF, -INF, 0.5, -0.5, 0.0, -0.0, INF, NAN])),
        ("all-scores-nan", apart, np.full(9, NAN)),
        ("infinite-duplicates", same[:3], np.array([INF, 1.0, INF])),
        ("wild-boxes", wild, descending(len(wild))),
        ("all-boxes-nan", np.full((5, 4), NAN), descending(5)),
        *((d.__name__, integer_boxes(rng, 9, d, 0, 40), descending(9)) for d in INTEGERS),
    ]
    made = [Case(f"{case}-{name}", tuple(args), {"score_threshold": None, **method}) for case, *args in cases]
    limits = [Case(f"max-output-{k}-{name}", (apart, descending(9)), {"max_output": k, **method}) for k in (0, 3, 99)]
    return made + limits


def _settled_soft(name: str, boxes: Float64, scores: Float64, idxs: Array | None = None, **options: Any) -> Case:
    """A case without the boxes that come too close to being chosen instead of another, or to the threshold."""
    known = {"method": "linear", "iou_threshold": 0.3, "sigma": 0.5, "pixel_offset": 0}
    chosen = {k: options.get(k, v) for k, v in known.items()}
    threshold = options.get("score_threshold", 1e-3)
    for dtype in (np.float64, np.float32):  # of the decisions that IoU > iou_threshold asks for
        while True:
            close = set()
            for left, current in reference.soft_nms_steps(boxes.astype(dtype), scores, idxs, **chosen):
                best, *others = left[np.argsort(-current[left], kind="stable")[:2]]
                close |= {i for i in others if _close(current[i], current[best])}
                close |= {best} if _close(current[best], threshold, equal=True) else set()
            if not close:
                break
            boxes, scores, idxs = _without(close, boxes, scores, idxs)
    return Case(name, (boxes, scores) if idxs is None else (boxes, scores, idxs), options)


def _settled_matrix(name: str, boxes: Float64, scores: Float64, idxs: Array | None = None, **options: Any) -> Case:
    case = _settled(reference.matrix_nms, name, boxes, scores, idxs, **options)
    assert len(case.args[0]) > 0.8 * len(boxes), "the draw holds too many close scores"
    return case


def _settled(
    function: Any, name: str, things: Array, scores: Float64, idxs: Array | None = None, **options: Any
) -> Case:
    """A case without the boxes or masks whose decayed scores come too close to another's, or to the threshold."""
    every = {k: v for k, v in options.items() if k not in ("score_threshold", "max_output")}
    while True:
        indices, decayed = function(things, scores, idxs, **every)
        threshold = options.get("score_threshold") or -1.0
        close = {i for i, score in zip(indices, decayed, strict=True) if _close(score, threshold, equal=True)}
        close |= {i for i, a, b in zip(indices[1:], decayed[1:], decayed[:-1], strict=True) if _close(a, b)}
        if not close:
            break
        things, scores, idxs = _without(close, things, scores, idxs)
    return Case(name, (things, scores) if idxs is None else (things, scores, idxs), options)


def _close(a: float, b: float, *, equal: bool = False) -> bool:
    """Whether roundings may make the larger of two the smaller; what is equal here is equal in every dtype."""
    return (equal or a != b) and abs(a - b) <= CLOSE * abs(b)


def _without(taken: set[Any], *columns: Array | None) -> list[Any]:
    return [None if c is None else np.delete(c, [int(i) for i in taken], axis=0) for c in columns]


def _short(values: Float64) -> Float64:
    """Rounded to the 8 binary digits that bfloat16 has."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 256) / 256, exponent)


def _blobs(rng: np.random.Generator, n: int, height: int, width: int) -> Array:
    """N masks (n, height, width) as a network draws them: discs of few centres, ragged."""
    centre = (rng.random((5, 2)) * [height, width])[rng.integers(5, size=n)] + rng.normal(size=(n, 2)) * 2
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - centre[:, :1, None], x - centre[:, 1:, None])
    ragged: Array = distance + rng.normal(size=(n, height, width)) * 0.7 < rng.uniform(3.0, 9.0, (n, 1, 1))
    return ragged
