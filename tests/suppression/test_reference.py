"""The suppression references against their definition, checked on torch's whole IoU matrix, and worked examples."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.boxes.random_boxes import clustered_boxes, scattered_boxes, uniform_boxes
from visionops.suppression import cases
from visionops.suppression import reference as ref
from visionops.suppression.hard_boxes import EXACT_PAIRS, razor_pairs
from visionops.testing import Case

Array = npt.NDArray[Any]
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
OPTIONS: dict[str, Any] = {"score_threshold": None, "max_output": None, "pixel_offset": 0}


def rounded(value: Any, dtype: torch.dtype) -> Any:
    """What the contract test passes: float64 arrays in the dtype under test, bfloat16 widened to float32."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        return value
    tensor = torch.from_numpy(value).to(dtype)
    return (tensor.float() if dtype == torch.bfloat16 else tensor).numpy()


def suppresses(boxes: torch.Tensor, threshold: float, offset: int) -> torch.Tensor:
    """Whether i's IoU with j is above the threshold, as an (N, N) matrix: the rule in torch, op by op."""
    wide = boxes.dtype in (torch.float64, torch.int32, torch.int64)
    box = boxes.to(torch.float64 if wide else torch.float32)
    x1, y1, x2, y2 = box.unbind(1)
    area = (x2 - x1 + offset).clamp_min(0) * (y2 - y1 + offset).clamp_min(0)
    width = torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1) + offset
    height = torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1) + offset
    common = width.clamp_min(0) * height.clamp_min(0)
    iou = common / (area[:, None] + area - common)
    iou[area.isinf()[:, None] | area.isinf() | iou.isnan()] = 0
    return iou > torch.tensor(threshold, dtype=torch.float64).to(box.dtype)


def check(boxes: Array, scores: Array, classes: Array, threshold: float, kept: Array, **kwargs: Any) -> None:
    """Asserts what defines the result: a legal box is kept iff no kept box above it in its class suppresses it.

    No other list has this property, so it is verified box by box without suppressing anything.
    """
    options = OPTIONS | kwargs
    legal = ~np.isnan(scores) & ~np.isnan(boxes).any(axis=1)
    if options["score_threshold"] is not None:
        wide = np.float64 if scores.dtype == np.float64 else np.float32
        with np.errstate(over="ignore"):
            legal &= scores.astype(wide) > np.array(options["score_threshold"]).astype(wide)
    # Keys of Python floats and ints: -0.0 == 0.0 there, so the index decides.
    ranking = sorted(np.flatnonzero(legal).tolist(), key=lambda i: (-float(scores[i]), i))
    rank = {index: place for place, index in enumerate(ranking)}
    assert kept.dtype == np.int64
    places = [rank[i] for i in kept.tolist()]
    assert places == sorted(set(places))

    above = np.array(ranking, dtype=np.int64)
    conflict = suppresses(torch.from_numpy(boxes[above]), threshold, options["pixel_offset"]).numpy()
    conflict &= classes[above][:, None] == classes[above]
    limit = options["max_output"]
    if limit is not None:
        assert len(places) <= limit
        if len(places) == limit:
            # The list may stop only here: what comes after the last kept box is not judged.
            end = places[-1] + 1 if places else 0
            above, conflict = above[:end], conflict[:end, :end]
    is_kept = np.zeros(len(above), np.bool_)
    is_kept[places] = True
    suppressed = (np.triu(conflict, 1) & is_kept[:, None]).any(axis=0)
    np.testing.assert_array_equal(is_kept, ~suppressed)


def ids(case: Case) -> str:
    """A case's name as its test id."""
    return case.name


# A matrix of 2,500 boxes is dear; 1,001 show all that is here.
NMS = [case for case in cases.nms() if len(case.args[0]) <= 1001]
BATCHED = [case for case in cases.batched_nms() if len(case.args[0]) <= 1001]


@pytest.mark.parametrize("case", NMS, ids=ids)
def test_nms_is_its_definition(case: Case) -> None:
    for dtype in DTYPES if len(case.args[0]) < 1000 else DTYPES[1:2]:
        boxes, scores, threshold = (rounded(arg, dtype) for arg in case.args)
        kept = ref.nms(boxes, scores, threshold, **case.kwargs)
        check(boxes, scores, np.zeros(len(boxes)), threshold, kept, **case.kwargs)


@pytest.mark.parametrize("case", BATCHED, ids=ids)
def test_batched_nms_is_its_definition(case: Case) -> None:
    for dtype in DTYPES if len(case.args[0]) < 1000 else DTYPES[1:2]:
        boxes, scores, classes, threshold = (rounded(arg, dtype) for arg in case.args)
        kept = ref.batched_nms(boxes, scores, classes, threshold, **case.kwargs)
        check(boxes, scores, classes, threshold, kept, **case.kwargs)


small = st.integers(0, 6)
lattice_box = st.tuples(small, small, small, small).map(lambda c: [c[0], c[1], c[0] + c[2], c[1] + c[3]])
drawn = st.lists(
    st.tuples(lattice_box, st.sampled_from([-1.0, -0.0, 0.0, 0.25, 0.5, np.nan, np.inf]), st.integers(-2, 2))
)
thresholds = st.sampled_from([0.0, 0.2, 0.25, 1 / 3, 0.5, 1.0])


def columns(rows: list[tuple[list[int], float, int]]) -> tuple[Array, Array, Array]:
    """Boxes, scores and class ids of drawn rows."""
    boxes = np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 4)
    return boxes, np.array([row[1] for row in rows], dtype=np.float64), np.array([row[2] for row in rows], np.int64)


@given(drawn, thresholds, st.sampled_from([None, -1.0, 0.0, 0.25]), st.sampled_from([None, 0, 1, 3]), st.integers(0, 1))
@settings(max_examples=300)
def test_any_drawn_input_is_its_definition(
    rows: list[tuple[list[int], float, int]], threshold: float, least: float | None, limit: int | None, offset: int
) -> None:
    boxes, scores, classes = columns(rows)
    options: dict[str, Any] = {"score_threshold": least, "max_output": limit, "pixel_offset": offset}
    kept = ref.batched_nms(boxes, scores, classes, threshold, **options)
    check(boxes, scores, classes, threshold, kept, **options)
    kept = ref.nms(boxes, scores, threshold, **options)
    check(boxes, scores, np.zeros_like(classes), threshold, kept, **options)


@pytest.mark.parametrize("generate", [uniform_boxes, clustered_boxes, scattered_boxes])
def test_nms_is_the_textbook_loop(generate: Any) -> None:
    """The loop of torchvision's CPU kernel, in torch and float64, on boxes without ties."""
    rng = np.random.default_rng(0)
    boxes, scores = generate(rng, 300), rng.random(300)
    conflict = suppresses(torch.from_numpy(boxes), 0.45, 0)
    order = torch.from_numpy(scores).argsort(descending=True).tolist()
    alive, kept = set(order), []
    for i in order:
        if i in alive:
            kept.append(i)
            alive -= set(conflict[i].nonzero().flatten().tolist())
    assert ref.nms(boxes, scores, 0.45).tolist() == kept
    assert 10 < len(kept) < 300


def test_nms_by_hand() -> None:
    # 1 (best) overlaps 0 by 81/119, 0 overlaps 2 by 1/3; 3 is alone.
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 5], [30, 0, 35, 5]], dtype=np.float64)
    scores = np.array([0.5, 0.75, 0.25, 0.125])
    assert ref.nms(boxes, scores, 0.7).tolist() == [1, 0, 2, 3]
    assert ref.nms(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert ref.nms(boxes, scores, 0.3).tolist() == [1, 3]
    assert ref.nms(boxes, scores, 0.0).tolist() == [1, 3]
    assert ref.nms(boxes, scores, 0.5, score_threshold=0.125).tolist() == [1, 2]
    assert ref.nms(boxes, scores, 0.5, max_output=1).tolist() == [1]
    assert ref.nms(boxes, scores, 0.5, max_output=0).tolist() == []
    assert ref.batched_nms(boxes, scores, np.array([0, 1, 0, 1]), 0.3).tolist() == [1, 0, 3]
    assert ref.batched_nms(boxes, scores, np.array([0, 1, 0, 1]), 0.3, max_output=2).tolist() == [1, 0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    # Each overlaps its neighbour by 8/16 and the next but one by 4/20.
    chain = np.arange(5)[:, None] * [4.0, 0.0, 4.0, 0.0] + [0.0, 0.0, 12.0, 1.0]
    assert ref.nms(chain, np.arange(5, 0, -1.0), 0.4).tolist() == [0, 2, 4]
    assert ref.nms(chain, np.array([2.0, 3, 1, 5, 4]), 0.4).tolist() == [3, 1]


@pytest.mark.parametrize("fraction", EXACT_PAIRS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int16, np.int64])
def test_equal_to_the_threshold_is_kept(fraction: str, dtype: type[np.generic]) -> None:
    """One rule in every dtype, at the threshold and one step of the computing dtype beside it."""
    boxes = np.array(EXACT_PAIRS[fraction], dtype=dtype)
    computed = np.float64 if dtype in (np.float64, np.int64) else np.float32
    exact = computed(float(Fraction(fraction)))
    scores = np.array([2.0, 1.0])
    assert ref.nms(boxes, scores, float(exact)).tolist() == [0, 1]
    assert ref.nms(boxes, scores, float(np.nextafter(exact, computed(2)))).tolist() == [0, 1]
    assert ref.nms(boxes, scores, float(np.nextafter(exact, computed(-1)))).tolist() == [0]


def test_the_boxes_dtype_decides() -> None:
    """IoU of these is one half and 1 / (2 * 32767 * 32641): float32 rounds it to one half, float64 does not."""
    boxes = [[0, 0, 32767, 32641], [0, 0, 16448, 32513]]
    assert 2 * 16448 * 32513 == 32767 * 32641 + 1
    scores = np.array([2.0, 1.0])
    kept = {np.int16: 2, np.float32: 2, np.int32: 1, np.int64: 1, np.float64: 1}
    for dtype, count in kept.items():
        assert len(ref.nms(np.array(boxes, dtype), scores, 0.5)) == count, dtype
    # The dtype of the scores has no say in it.
    assert len(ref.nms(np.array(boxes, np.float32), scores.astype(np.float64), 0.5)) == 2
    assert len(ref.nms(np.array(boxes, np.float64), scores.astype(np.float32), 0.5)) == 1


def test_the_threshold_is_rounded_to_the_boxes_dtype() -> None:
    # IoU is float32's 0.7. A float64 threshold just below rounds to it; compared unrounded it would suppress.
    boxes = np.array([[0, 0, 10, 1], [0, 0, 7, 1]], np.float32)
    iou = float(np.float32(7) / np.float32(10))
    below = float(np.nextafter(iou, 0))
    assert below < iou
    assert ref.nms(boxes, np.array([2.0, 1.0]), below).tolist() == [0, 1]


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_every_operation_is_rounded_once(ratio: float) -> None:
    """Pairs that float32's single roundings decide otherwise than exact arithmetic on the same float32 boxes."""
    boxes = razor_pairs(np.random.default_rng(1), 800, ratio).astype(np.float32)
    once = suppresses(torch.from_numpy(boxes), ratio, 0).numpy()
    exact = suppresses(torch.from_numpy(boxes.astype(np.float64)), float(np.float32(ratio)), 0).numpy()
    pairs = np.argwhere(np.triu(once != exact, 1))
    assert len(pairs) > 10
    for pair in pairs:
        kept = ref.nms(boxes[pair], np.array([2.0, 1.0]), ratio)
        assert (len(kept) == 1) == once[tuple(pair)]


def test_ties_go_to_the_lower_index() -> None:
    same = np.tile([2.0, 3.0, 11.0, 9.0], (4, 1))
    apart = same + np.arange(4)[:, None] * [50.0, 0.0, 50.0, 0.0]
    for scores in ([0.5] * 4, [-0.0, 0.0, -0.0, 0.0], [0.0, -0.0, 0.0, -0.0], [np.inf] * 4, [-np.inf] * 4):
        assert ref.nms(same, np.array(scores), 0.5).tolist() == [0]
        assert ref.nms(apart, np.array(scores), 0.5).tolist() == [0, 1, 2, 3]
        assert ref.batched_nms(same, np.array(scores), np.array([1, 0, 1, 0]), 0.5).tolist() == [0, 1]
    # 1 and 1 + 2^-12 are one float16, so there the index decides.
    close = np.array([1.0, 1 + 2.0**-12])
    assert ref.nms(same[:2], close, 0.5).tolist() == [1]
    assert ref.nms(same[:2], close.astype(np.float16), 0.5).tolist() == [0]


def test_threshold_1_keeps_duplicates_and_0_keeps_touching() -> None:
    same = np.tile([2.0, 3.0, 11.0, 9.0], (4, 1))
    assert len(ref.nms(same, np.ones(4), 1.0)) == 4
    touching = np.array([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0], [3.875, 0.0, 4.0, 4.0]])
    assert ref.nms(touching, np.array([3.0, 2.0, 1.0]), 0.0).tolist() == [0, 1]


def test_inclusive_pixels() -> None:
    points = np.tile([3.0, 3.0, 3.0, 3.0], (2, 1))
    assert ref.nms(points, np.ones(2), 0.5).tolist() == [0, 1]
    assert ref.nms(points, np.ones(2), 0.5, pixel_offset=1).tolist() == [0]
    # Pixels 0..3 and 2..5 share two of six.
    rows = np.array([[0.0, 0.0, 3.0, 0.0], [2.0, 0.0, 5.0, 0.0]])
    assert ref.nms(rows, np.ones(2), 0.33, pixel_offset=1).tolist() == [0]
    assert ref.nms(rows, np.ones(2), 0.34, pixel_offset=1).tolist() == [0, 1]


@pytest.mark.parametrize("bad", [[np.nan, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, np.nan], None])
def test_a_nan_leaves_the_others_alone(bad: list[float] | None) -> None:
    rng = np.random.default_rng(2)
    boxes, scores = clustered_boxes(rng, 100, objects=4), rng.random(100)
    dropped = np.arange(0, 100, 7)
    others = np.setdiff1d(np.arange(100), dropped)
    expected = others[ref.nms(boxes[others], scores[others], 0.4)]
    if bad is None:
        scores[dropped] = np.nan
    else:
        boxes[dropped] = bad
    np.testing.assert_array_equal(ref.nms(boxes, scores, 0.4), expected)
    np.testing.assert_array_equal(ref.batched_nms(boxes, scores, np.full(100, 5), 0.4), expected)


def test_infinite_boxes_are_kept_and_suppress_nothing() -> None:
    boxes = np.array(
        [[-np.inf, -np.inf, np.inf, np.inf]] * 2 + [[0.0, 0.0, np.inf, 9.0]] * 2 + [[0.0, 0.0, 9.0, 9.0]] * 2
    )
    assert ref.nms(boxes, np.arange(6, 0, -1.0), 0.0).tolist() == [0, 1, 2, 3, 4]


def test_infinite_scores_are_first_and_last() -> None:
    apart = np.arange(4)[:, None] * [20.0, 0.0, 20.0, 0.0] + [0.0, 0.0, 10.0, 10.0]
    scores = np.array([-np.inf, 3.0, np.inf, np.nan])
    assert ref.nms(apart, scores, 0.5).tolist() == [2, 1, 0]
    assert ref.nms(apart, scores, 0.5, score_threshold=-np.inf).tolist() == [2, 1]


def test_areas_that_leave_float32_do_not_overlap_there() -> None:
    huge = np.tile([0.0, 0.0, 1e30, 1e30], (2, 1))
    sum_overflows = np.tile([0.0, 0.0, 1.5e19, 1.5e19], (2, 1))
    vanishing = np.tile([0.0, 0.0, 1e-30, 1e-30], (2, 1))
    for boxes in (huge, sum_overflows, vanishing):
        assert ref.nms(boxes, np.ones(2), 0.5).tolist() == [0]
        assert ref.nms(boxes.astype(np.float32), np.ones(2), 0.5).tolist() == [0, 1]


def test_score_threshold_is_strict_in_the_scores_dtype() -> None:
    apart = np.arange(3)[:, None] * [20.0, 0.0, 20.0, 0.0] + [0.0, 0.0, 10.0, 10.0]
    scores = np.array([0.3, np.nextafter(0.3, 1), 0.5])
    assert ref.nms(apart, scores, 0.5, score_threshold=0.3).tolist() == [2, 1]
    # In float32 both are the rounded threshold itself; float16's 0.3 is above it.
    assert ref.nms(apart, scores.astype(np.float32), 0.5, score_threshold=0.3).tolist() == [2]
    assert ref.nms(apart, scores.astype(np.float16), 0.5, score_threshold=0.3).tolist() == [2, 0, 1]
    # The dtype of the boxes has no say in it.
    assert ref.nms(apart.astype(np.float32), scores, 0.5, score_threshold=0.3).tolist() == [2, 1]
    assert ref.nms(apart, scores, 0.5, score_threshold=None).tolist() == [2, 1, 0]


def test_score_threshold_is_a_filter_before() -> None:
    rng = np.random.default_rng(3)
    boxes, scores, classes = clustered_boxes(rng, 200, objects=4), rng.random(200), rng.integers(3, size=200)
    above = np.flatnonzero(scores > 0.4)
    expected = above[ref.batched_nms(boxes[above], scores[above], classes[above], 0.4)]
    np.testing.assert_array_equal(ref.batched_nms(boxes, scores, classes, 0.4, score_threshold=0.4), expected)


def test_classes_at_any_coordinate_and_id() -> None:
    """No offset of coordinates keeps classes apart."""
    same = np.tile([-100.0, -100.0, -90.0, -90.0], (2, 1))
    for pair in ([0, 1], [19_999, 20_000], [2**62, 2**62 + 1], [-(2**63), 2**63 - 1], [0, 2**32], [-1, 1]):
        assert ref.batched_nms(same, np.ones(2), np.array(pair), 0.5).tolist() == [0, 1]
        assert ref.batched_nms(same, np.ones(2), np.array(pair[:1] * 2), 0.5).tolist() == [0]
    one_inf = np.concatenate([same, [[0.0, 0.0, np.inf, 5.0]]])
    assert ref.batched_nms(one_inf, np.ones(3), np.array([0, 0, 1]), 0.5).tolist() == [0, 2]


@given(drawn, thresholds)
def test_nms_of_its_own_output_keeps_all(rows: list[tuple[list[int], float, int]], threshold: float) -> None:
    boxes, scores, classes = columns(rows)
    kept = ref.nms(boxes, scores, threshold)
    assert ref.nms(boxes[kept], scores[kept], threshold).tolist() == list(range(len(kept)))
    kept = ref.batched_nms(boxes, scores, classes, threshold)
    again = ref.batched_nms(boxes[kept], scores[kept], classes[kept], threshold)
    assert again.tolist() == list(range(len(kept)))


@given(drawn, thresholds, st.permutations([-2, -1, 0, 1, 2]))
def test_names_of_classes_do_not_matter(
    rows: list[tuple[list[int], float, int]], threshold: float, renamed: list[int]
) -> None:
    boxes, scores, classes = columns(rows)
    other = np.array([2**62 - renamed[c + 2] for c in classes], dtype=np.int64)
    expected = ref.batched_nms(boxes, scores, classes, threshold)
    np.testing.assert_array_equal(ref.batched_nms(boxes, scores, other, threshold), expected)


@given(drawn, thresholds, st.integers(0, 10))
def test_max_output_is_the_head_of_all(rows: list[tuple[list[int], float, int]], threshold: float, limit: int) -> None:
    boxes, scores, classes = columns(rows)
    everything = ref.batched_nms(boxes, scores, classes, threshold)
    assert (scores[everything[:-1]] >= scores[everything[1:]]).all()
    np.testing.assert_array_equal(
        ref.batched_nms(boxes, scores, classes, threshold, max_output=limit), everything[:limit]
    )


@given(drawn, thresholds)
def test_classes_are_separate_and_one_class_is_nms(rows: list[tuple[list[int], float, int]], threshold: float) -> None:
    boxes, scores, classes = columns(rows)
    everything = ref.batched_nms(boxes, scores, classes, threshold)
    for class_id in set(classes.tolist()):
        members = np.flatnonzero(classes == class_id)
        alone = members[ref.nms(boxes[members], scores[members], threshold)]
        np.testing.assert_array_equal(everything[classes[everything] == class_id], alone)
    np.testing.assert_array_equal(
        ref.batched_nms(boxes, scores, np.zeros_like(classes), threshold), ref.nms(boxes, scores, threshold)
    )


def test_shuffled_boxes_give_the_same_boxes() -> None:
    rng = np.random.default_rng(4)
    boxes, scores, classes = scattered_boxes(rng, 300), rng.random(300), rng.integers(4, size=300)
    shuffle = rng.permutation(300)
    expected = ref.batched_nms(boxes, scores, classes, 0.5)
    actual = ref.batched_nms(boxes[shuffle], scores[shuffle], classes[shuffle], 0.5)
    np.testing.assert_array_equal(shuffle[actual], expected)
    assert len(expected) < 300


def test_inputs_are_left_alone() -> None:
    rng = np.random.default_rng(5)
    boxes, scores = clustered_boxes(rng, 50, objects=2), rng.random(50)
    before = boxes.copy(), scores.copy()
    ref.batched_nms(boxes, scores, np.zeros(50, np.int64), 0.5, score_threshold=0.1, max_output=5)
    np.testing.assert_array_equal(boxes, before[0])
    np.testing.assert_array_equal(scores, before[1])


def test_most_of_a_crowd_is_suppressed() -> None:
    """The cases named so are what they say."""
    named = {case.name: case for case in cases.nms()}
    crowd = named["crowd-1001"]
    assert len(ref.nms(*crowd.args)) < 100
    lattice = named["lattice-0.50"]
    boxes = torch.from_numpy(lattice.args[0])
    at_least = suppresses(boxes, float(np.nextafter(0.5, 0)), 0)
    assert (at_least & ~suppresses(boxes, 0.5, 0)).sum() > 100
