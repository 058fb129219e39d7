"""The IoU references against second witnesses: worked examples, torchvision's values, polygons and torch formulas."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_boxes import boxes_of, eighths, rows_of
from visionops.boxes import cases
from visionops.boxes import reference as ref
from visionops.boxes.random_boxes import INTEGERS, clustered_boxes, scattered_boxes, uniform_boxes

Array = npt.NDArray[Any]
NAN, INF = math.nan, math.inf

# What torchvision 0.29.2 prints for these boxes in float64; its own tests use the same inputs.
WHOLE = np.array([[0, 0, 100, 100], [0, 0, 50, 50], [200, 200, 300, 300], [0, 0, 25, 25]], dtype=np.float64)
CLOSE = np.array(
    [
        [285.3538, 185.5758, 1193.5110, 851.4551],
        [285.1472, 188.7374, 1192.4984, 851.0669],
        [279.2440, 197.9812, 1189.4746, 849.2019],
    ]
)
TORCHVISION: dict[str, tuple[list[list[float]], list[list[float]]]] = {
    "iou": (
        [[1, 0.25, 0], [0.25, 1, 0], [0, 0, 1], [0.0625, 0.25, 0]],
        [[1, 0.993335, 0.967275], [0.993335, 1, 0.973722], [0.967275, 0.973722, 1]],
    ),
    "giou": (
        [[1, 0.25, -0.777778], [0.25, 1, -0.861111], [-0.777778, -0.861111, 1], [0.0625, 0.25, -0.881944]],
        [[1, 0.993334, 0.967128], [0.993334, 1, 0.973614], [0.967128, 0.973614, 1]],
    ),
    "diou": (
        [[1, 0.1875, -0.444444], [0.1875, 1, -0.5625], [-0.444444, -0.5625, 1], [-0.078125, 0.1875, -0.626736]],
        [[1, 0.993333, 0.967235], [0.993333, 1, 0.973696], [0.967235, 0.973696, 1]],
    ),
    "ciou": (
        [[1, 0.1875, -0.444444], [0.1875, 1, -0.5625], [-0.444444, -0.5625, 1], [-0.078125, 0.1875, -0.626736]],
        [[1, 0.993333, 0.967235], [0.993333, 1, 0.973696], [0.967235, 0.973696, 1]],
    ),
}
NAMED = {"giou": ref.generalized_box_iou, "diou": ref.distance_box_iou, "ciou": ref.complete_box_iou}


@pytest.mark.parametrize("mode", TORCHVISION)
def test_iou_is_torchvisions(mode: str) -> None:
    whole, close = TORCHVISION[mode]
    np.testing.assert_allclose(ref.box_iou(WHOLE, WHOLE[:3], mode=mode), whole, atol=6e-7)
    np.testing.assert_allclose(ref.box_iou(CLOSE, CLOSE, mode=mode), close, atol=6e-7)


# Two boxes, their worth in each mode by hand. v of (4, 2) and (2, 2) is 4/pi^2 (atan 2 - pi/4)^2.
V = 4 / math.pi**2 * (math.atan(2) - math.pi / 4) ** 2
WORKED = [
    # overlap 1x2=2 of areas 8 and 4, hull 5x2=10, centres 2.0 apart, diagonal^2 29
    ([0, 0, 4, 2], [3, 0, 5, 2], {"iou": 0.2, "giou": 0.2, "diou": 0.2 - 4 / 29, "iof": 0.25}),
    ([0, 0, 4, 2], [3, 0, 5, 2], {"ciou": 0.2 - 4 / 29 - V * V / (0.8 + V)}),
    # apart by 6: hull 12x2=24 holds 12
    ([0, 0, 4, 2], [10, 0, 12, 2], {"iou": 0, "giou": -0.5, "diou": -81 / 148, "iof": 0}),
    # a shared edge is no overlap
    ([0, 0, 4, 4], [4, 0, 8, 4], {"iou": 0, "giou": 0, "diou": -16 / 80, "ciou": -16 / 80, "iof": 0}),
    # nested
    ([0, 0, 2, 2], [0, 0, 4, 4], {"iou": 0.25, "giou": 0.25, "diou": 0.25 - 2 / 32, "iof": 1}),
    ([0, 0, 4, 4], [0, 0, 2, 2], {"iof": 0.25}),
    # a point on itself: nothing divided by nothing, in every term
    ([3, 3, 3, 3], [3, 3, 3, 3], {"iou": 0, "giou": 0, "diou": 0, "ciou": 0, "iof": 0}),
    # two points: a hull of area 12, of which nothing is covered; corner to corner is the whole diagonal
    ([0, 0, 0, 0], [3, 4, 3, 4], {"iou": 0, "giou": -1, "diou": -1, "ciou": -1}),
    # an inverted box has no area, but counts for the hull: from (2, 0) to (5, 4)
    ([5, 0, 2, 4], [2, 0, 4, 4], {"iou": 0, "giou": 0, "iof": 0}),
    # its centre, (30.5, 2), is 29.5 from the other's, though the hull is only 4 high and 1 wide: bounded by 1
    ([60, 0, 1, 4], [0, 0, 2, 4], {"iou": 0, "diou": -1}),
    # two boxes inverted both ways enclose nothing: no diagonal, no penalty, though the centres differ
    ([6, 6, 0, 0], [8, 9, 2, 1], {"iou": 0, "giou": 0, "diou": 0, "ciou": 0, "iof": 0}),
    # a first box without area has no IoF
    ([1, 1, 1, 5], [0, 0, 9, 9], {"iou": 0, "iof": 0, "giou": 0}),
    # infinities: no finite union, hull or diagonal; yet all of a finite box lies in an infinite one
    ([0, 0, 2, 2], [-INF, -INF, INF, INF], {"iou": 0, "giou": 0, "diou": 0, "iof": 1}),
    ([-INF, -INF, INF, INF], [0, 0, 2, 2], {"iou": 0, "giou": 0, "diou": 0, "ciou": 0, "iof": 0}),
    ([0, 0, INF, 2], [0, 0, INF, 2], {"iou": 0, "giou": 0, "diou": 0, "ciou": 0, "iof": 0}),
    ([0, 0, 2, 2], [0, NAN, 2, 2], {"iou": 0, "giou": 0, "diou": 0, "ciou": 0, "iof": 0}),
]


@pytest.mark.parametrize(("first", "second", "expected"), WORKED)
def test_iou_by_hand(first: list[float], second: list[float], expected: dict[str, float]) -> None:
    for mode, value in expected.items():
        actual = ref.box_iou(np.array([first], float), np.array([second], float), mode=mode)
        assert actual.shape == (1, 1)
        assert actual[0, 0] == pytest.approx(value, abs=1e-15), mode


def test_iou_counts_inclusive_pixels() -> None:
    # Pixels 0..3 and 2..5: 2 of 6 columns; a point is one pixel; 4..4 touches 0..3 without a common pixel.
    a = np.array([[0, 0, 3, 0], [7, 7, 7, 7]])
    b = np.array([[2, 0, 5, 0], [7, 7, 7, 7], [4, 0, 4, 0]])
    np.testing.assert_allclose(ref.box_iou(a, b, pixel_offset=1), np.array([[1 / 3, 0, 0], [0, 1, 0]]), rtol=1e-15)
    np.testing.assert_allclose(
        ref.box_iou(a, b, mode="iof", pixel_offset=1), np.array([[0.5, 0, 0], [0, 1, 0]]), rtol=1e-15
    )
    # Hulls of 0..5 and 0..4 are full; from (0, 0) to (7, 7) are 64 pixels, of which 5 are covered.
    giou = ref.box_iou(a, b, mode="giou", pixel_offset=1)
    np.testing.assert_allclose(giou[0], [1 / 3, -59 / 64, 0], rtol=1e-15)
    # Centres 2 apart, hull 6 by 1.
    diou = ref.box_iou(a, b, mode="diou", pixel_offset=1)
    assert diou[0, 0] == pytest.approx(1 / 3 - 4 / 37, rel=1e-15)


@given(boxes_of(eighths), boxes_of(eighths))
def test_iou_and_giou_are_the_polygons(a: Array, b: Array) -> None:
    left, right = shapely.box(*a.T)[:, None], shapely.box(*b.T)[None, :]
    common, covered = shapely.area(shapely.intersection(left, right)), shapely.area(shapely.union(left, right))
    hull = shapely.area(shapely.envelope(shapely.union(left, right)))
    iou = np.divide(common, covered, out=np.zeros_like(common), where=covered > 0)
    iof = np.divide(common, shapely.area(left), out=np.zeros_like(common), where=shapely.area(left) > 0)
    waste = np.divide(hull - covered, hull, out=np.zeros_like(common), where=hull > 0)
    np.testing.assert_allclose(ref.box_iou(a, b), iou, atol=1e-12)
    np.testing.assert_allclose(ref.box_iou(a, b, mode="iof"), iof, atol=1e-12)
    np.testing.assert_allclose(ref.box_iou(a, b, mode="giou"), iou - waste, atol=1e-12)
    np.testing.assert_array_equal(ref.box_area(a), shapely.area(left[:, 0]))


def test_diou_and_ciou_are_the_papers_formulas() -> None:
    rng = np.random.default_rng(0)
    a, b = clustered_boxes(rng, 60, objects=3), uniform_boxes(rng, 50)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    centre = [(t[:, :2] + t[:, 2:]) / 2 for t in (x, y)]
    low, high = torch.minimum(x[:, None, :2], y[None, :, :2]), torch.maximum(x[:, None, 2:], y[None, :, 2:])
    penalty = (torch.cdist(centre[0], centre[1]) / torch.linalg.vector_norm(high - low, dim=-1)) ** 2
    aspect = [torch.atan((t[:, 2] - t[:, 0]) / (t[:, 3] - t[:, 1])) for t in (x, y)]
    v = (2 / math.pi * (aspect[0][:, None] - aspect[1][None, :])) ** 2
    iou = torch.from_numpy(ref.box_iou(a, b))
    diou = iou - penalty
    np.testing.assert_allclose(ref.box_iou(a, b, mode="diou"), diou.numpy(), atol=1e-12)
    np.testing.assert_allclose(ref.box_iou(a, b, mode="ciou"), (diou - v * v / (1 - iou + v)).numpy(), atol=1e-12)


@given(boxes_of(eighths), boxes_of(eighths), st.sampled_from(["iou", "giou", "diou", "ciou"]), st.integers(0, 1))
def test_iou_is_symmetric(a: Array, b: Array, mode: str, offset: int) -> None:
    there = ref.box_iou(a, b, mode=mode, pixel_offset=offset)
    back = ref.box_iou(b, a, mode=mode, pixel_offset=offset)
    np.testing.assert_allclose(there, back.T, rtol=0, atol=1e-15)


@given(boxes_of(eighths), boxes_of(eighths), st.integers(0, 1))
def test_modes_are_in_range_and_in_order(a: Array, b: Array, offset: int) -> None:
    iou, giou, diou, ciou, iof = (ref.box_iou(a, b, mode=mode, pixel_offset=offset) for mode in cases.MODES)
    for value, least in ((iou, 0), (iof, 0), (giou, -1), (diou, -1), (ciou, -2)):
        assert (value >= least).all()
        assert (value <= 1).all()
    assert (giou <= iou).all()
    assert (diou <= iou).all()
    assert (ciou <= diou).all()
    assert (iou <= iof + 1e-15).all()


@given(boxes_of(eighths), st.sampled_from(cases.MODES))
def test_a_box_is_itself(a: Array, mode: str) -> None:
    expected = (ref.box_area(a) > 0).astype(float)
    np.testing.assert_array_equal(ref.box_iou(a, a, mode=mode, aligned=True), expected)


@given(boxes_of(eighths), boxes_of(eighths), st.sampled_from(cases.MODES), st.integers(-20, 20))
def test_scale_does_not_matter(a: Array, b: Array, mode: str, exponent: int) -> None:
    scaled = ref.box_iou(a * 2.0**exponent, b * 2.0**exponent, mode=mode)
    np.testing.assert_array_equal(scaled, ref.box_iou(a, b, mode=mode))


@given(rows_of(st.floats()), rows_of(st.floats()), st.sampled_from(cases.MODES), st.integers(0, 1))
@settings(max_examples=300)
def test_iou_is_finite_and_bounded_for_every_input(a: Array, b: Array, mode: str, offset: int) -> None:
    value = ref.box_iou(a, b, mode=mode, pixel_offset=offset)
    assert np.isfinite(value).all()
    assert (value <= 1).all()
    # With overflowing areas GIoU's terms are dropped one by one, never below a whole penalty.
    assert (value >= -2).all()


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("column", range(4))
def test_nan_anywhere_gives_no_overlap(mode: str, column: int) -> None:
    box, spoilt = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([[0.0, 0.0, 4.0, 4.0]])
    spoilt[0, column] = NAN
    assert ref.box_iou(box, spoilt, mode=mode) == 0
    assert ref.box_iou(spoilt, box, mode=mode) == 0
    assert ref.box_iou(box, box, mode=mode) == 1


@pytest.mark.parametrize("mode", cases.MODES)
def test_aligned_is_the_diagonal(mode: str) -> None:
    rng = np.random.default_rng(1)
    a, b = clustered_boxes(rng, 40, objects=2), clustered_boxes(rng, 40, objects=2)
    aligned = ref.box_iou(a, b, mode=mode, aligned=True)
    assert aligned.shape == (40,)
    np.testing.assert_array_equal(aligned, np.diagonal(ref.box_iou(a, b, mode=mode)))


def test_leading_dimensions_broadcast() -> None:
    boxes = scattered_boxes(np.random.default_rng(2), 50)
    a, b = boxes[:6].reshape(2, 1, 3, 4), boxes[6:26].reshape(4, 5, 4)
    together = ref.box_iou(a, b, mode="giou")
    assert together.shape == (2, 4, 3, 5)
    for i in range(2):
        for j in range(4):
            np.testing.assert_array_equal(together[i, j], ref.box_iou(a[i, 0], b[j], mode="giou"))
    np.testing.assert_array_equal(
        ref.box_iou(a, b[:, :3], aligned=True)[1, 2], ref.box_iou(a[1, 0], b[2, :3], aligned=True)
    )


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("mode", cases.MODES)
def test_no_boxes_no_overlaps(n: int, m: int, mode: str) -> None:
    assert ref.box_iou(np.ones((n, 4)), np.ones((m, 4)), mode=mode).shape == (n, m)


@pytest.mark.parametrize("mode", NAMED)
def test_named_forms_are_the_modes(mode: str) -> None:
    rng = np.random.default_rng(3)
    a, b = clustered_boxes(rng, 30, objects=2), clustered_boxes(rng, 20, objects=2)
    np.testing.assert_array_equal(NAMED[mode](a, b), ref.box_iou(a, b, mode=mode))


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_never_wrap(dtype: type[np.integer[Any]], mode: str) -> None:
    """Python's own integers are the witness."""
    info = np.iinfo(dtype)
    boxes = np.array([[info.min, info.min, info.max, info.max], [1, 2, 9, 100], [100, 101, 120, 127]], dtype)
    side = int(info.max) - int(info.min)
    assert ref.box_area(boxes).tolist() == [float(side) ** 2, 784.0, 520.0]
    value = ref.box_iou(boxes, boxes, mode=mode)
    assert value[0, 0] == value[1, 1] == 1
    assert value[1, 2] <= 0
    if mode == "iou":
        assert value[0, 1] == pytest.approx(784 / side**2)


def test_iou_rejects_an_unknown_mode() -> None:
    with pytest.raises(ValueError, match="mode: expected"):
        ref.box_iou(WHOLE, WHOLE, mode="eiou")


def test_wh_iou_by_hand() -> None:
    wh1 = np.array([[4.0, 2.0], [0.0, 5.0], [-4.0, 2.0], [NAN, 2.0], [INF, 2.0]])
    wh2 = np.array([[2.0, 4.0], [4.0, 2.0], [0.0, 5.0]])
    expected = np.array([[4 / 12, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(ref.wh_iou(wh1, wh2), expected, rtol=1e-15)
    assert ref.wh_iou(np.array([[200, 200]], np.uint8), np.array([[200, 100]], np.uint8)).tolist() == [[0.5]]


@given(boxes_of(eighths), boxes_of(eighths))
def test_wh_iou_is_the_iou_on_one_centre(a: Array, b: Array) -> None:
    wh1, wh2 = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    left, right = (np.concatenate([-wh / 2, wh / 2], axis=1) for wh in (wh1, wh2))
    np.testing.assert_array_equal(ref.wh_iou(wh1, wh2), ref.box_iou(left, right))
