"""The references of area, formats, clipping and masks against second witnesses: torch, Python's integers, by hand."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drawn_boxes import boxes_of, eighths
from visionops.boxes import reference as ref
from visionops.boxes.random_boxes import INTEGERS, uniform_boxes

Array = npt.NDArray[Any]
NAN, INF = math.nan, math.inf
FORMATS = ("xyxy", "xywh", "cxcywh")

SAME_BOX = {"xyxy": [10, 20, 14, 29], "xywh": [10, 20, 4, 9], "cxcywh": [12, 24.5, 4, 9]}


@pytest.mark.parametrize("in_fmt", FORMATS)
@pytest.mark.parametrize("out_fmt", FORMATS)
def test_convert_by_hand(in_fmt: str, out_fmt: str) -> None:
    actual = ref.box_convert(np.array([SAME_BOX[in_fmt]]), in_fmt, out_fmt)
    assert actual.dtype == np.float64
    assert actual.tolist() == [SAME_BOX[out_fmt]]


@given(boxes_of(eighths), st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_convert_round_trips(boxes: Array, start: str, other: str) -> None:
    there = ref.box_convert(boxes, start, other)
    np.testing.assert_array_equal(ref.box_convert(there, other, start), boxes)


def test_convert_keeps_halves_and_signs_of_integers() -> None:
    actual = ref.box_convert(np.array([[250, 1, 253, 2]], np.uint8), "xyxy", "cxcywh")
    assert actual.tolist() == [[251.5, 1.5, 3.0, 1.0]]
    assert ref.box_convert(np.array([[9, 9, 2, 3]], np.uint8), "xyxy", "xywh").tolist() == [[9, 9, -7, -6]]
    assert ref.box_convert(np.array([[120, 0, 100, 9]], np.int8), "xywh", "xyxy").tolist() == [[120, 0, 220, 9]]


@pytest.mark.parametrize(("in_fmt", "out_fmt", "culprit"), [("xxyy", "xyxy", "in_fmt"), ("xyxy", "XYWH", "out_fmt")])
def test_convert_rejects_an_unknown_format(in_fmt: str, out_fmt: str, culprit: str) -> None:
    with pytest.raises(ValueError, match=f"{culprit}: expected"):
        ref.box_convert(np.zeros((1, 4)), in_fmt, out_fmt)


def test_area_by_hand() -> None:
    boxes = np.array([[0, 0, 3, 4], [-2, -2, 2, 1], [5, 5, 5, 9], [9, 0, 2, 4], [9, 9, 2, 4], [0, NAN, 3, 4]])
    np.testing.assert_array_equal(ref.box_area(boxes), [12, 12, 0, 0, 0, NAN])
    np.testing.assert_array_equal(ref.box_area(boxes, pixel_offset=1), [20, 20, 5, 0, 0, NAN])
    # Inverted by half a pixel: with inclusive pixels half a pixel is left.
    assert ref.box_area(np.array([[2.5, 0.0, 2.0, 3.0]]), pixel_offset=1).tolist() == [2.0]
    assert ref.box_area(np.empty((2, 0, 4))).shape == (2, 0)


def test_clip_is_torchs_clamp() -> None:
    boxes = uniform_boxes(np.random.default_rng(4), 100, 3000, 2000) - 800
    boxes[7, 2], boxes[8, 1], boxes[9, 0] = NAN, INF, -INF
    tensor = torch.from_numpy(boxes)
    expected = torch.stack([tensor[:, 0::2].clamp(0, 640), tensor[:, 1::2].clamp(0, 480)], dim=-1).flatten(1)
    np.testing.assert_array_equal(ref.clip_boxes_to_image(boxes, (480, 640)), expected.numpy())


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("size", [(40, 60), (800, 1333), (0, 0)])
def test_clip_keeps_the_integer_dtype(dtype: type[np.integer[Any]], size: tuple[int, int]) -> None:
    info = np.iinfo(dtype)
    boxes = np.array([[info.min, 50, info.max, 50], [70, info.max, 10, info.min]], dtype)
    actual = ref.clip_boxes_to_image(boxes, size)
    assert actual.dtype == np.dtype(dtype)
    height, width = size
    expected = [[min(max(int(v), 0), width if i % 2 == 0 else height) for i, v in enumerate(box)] for box in boxes]
    assert actual.tolist() == expected


def test_clip_leaves_large_integers_exact() -> None:
    assert ref.clip_boxes_to_image(np.array([[2**60 + 1, 0, 0, 2**62]]), (2**61, 2**61)).tolist() == [
        [2**60 + 1, 0, 0, 2**61]
    ]


def test_small_boxes_by_hand() -> None:
    boxes = np.array(
        [
            [0, 0, 3, 3],  # just large enough
            [0, 0, 2.75, 9],  # narrow
            [0, 0, 9, 2.75],  # low
            [5, 5, 9, 9],
            [9, 9, 5, 5],  # inverted
            [0, 0, NAN, 9],
            [0, 0, INF, 9],
            [INF, 0, INF, 9],  # a NaN side
        ]
    )
    actual = ref.remove_small_boxes(boxes, 3.0)
    assert actual.dtype == np.int64
    assert actual.tolist() == [0, 3, 6]
    assert ref.remove_small_boxes(boxes, 0.0).tolist() == [0, 1, 2, 3, 6]
    assert ref.remove_small_boxes(np.array([[200, 200, 100, 100]], np.uint8), 1.0).tolist() == []
    assert ref.remove_small_boxes(np.empty((0, 4)), 1.0).tolist() == []


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_masks_are_bounded_tightly(n: int, height: int, width: int, random: Any) -> None:
    masks = np.array([random.random() < 0.2 for _ in range(n * height * width)]).reshape(n, height, width)
    for box, mask in zip(ref.masks_to_boxes(masks), torch.from_numpy(masks), strict=True):
        if not mask.any():
            assert box.tolist() == [0, 0, 0, 0]
            continue
        x1, y1, x2, y2 = box.astype(int)
        assert mask[y1 : y2 + 1, x1 : x2 + 1].sum() == mask.sum()
        for edge in (mask[y1], mask[y2], mask[:, x1], mask[:, x2]):
            assert edge.any()


def test_masks_by_hand() -> None:
    masks = np.zeros((3, 5, 7), np.uint8)
    masks[0, 1:4, 2:6] = 9
    masks[1, 4, 6] = 1
    assert ref.masks_to_boxes(masks).tolist() == [[2, 1, 5, 3], [6, 4, 6, 4], [0, 0, 0, 0]]
    assert ref.masks_to_boxes(np.zeros((0, 5, 7), np.bool_)).shape == (0, 4)
    assert ref.masks_to_boxes(np.zeros((2, 0, 7), np.bool_)).tolist() == [[0] * 4] * 2
