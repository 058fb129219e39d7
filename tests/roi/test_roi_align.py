"""What only roi_align and roi_pool do: both layouts, lists of boxes, messages, any box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import DTYPES, to_numpy
from drawn_rois import CALLS, boxes_on, drawn, last
from visionops import roi_align, roi_pool
from visionops.roi import cases, reference
from visionops.testing import Case, compare

OPERATIONS = {"roi_align": (roi_align, reference.roi_align), "roi_pool": (roi_pool, reference.roi_pool)}
ALL_CASES = [
    pytest.param(name, case, id=f"{name}-{case.name}") for name in OPERATIONS for case in getattr(cases, name)()
]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize(("name", "case"), ALL_CASES)
def test_channels_last(name: str, case: Case, dtype: torch.dtype) -> None:
    operation, meaning = OPERATIONS[name]
    image, boxes, *options = case.args
    args = last(torch.from_numpy(image).to(dtype)), torch.from_numpy(boxes)
    if boxes.dtype == np.float64:
        args = args[0], args[1].to(dtype)
    result = operation(*args, *options, **case.kwargs)
    expected = meaning(*map(to_numpy, args), *options, **case.kwargs)
    compare(to_numpy(result).astype(np.float64), expected, str(dtype).removeprefix("torch."), case.terms)
    # What the shape rule of tracing says too: its layout is the map's.
    fake = torch.empty_like(result, device="meta")
    assert result.stride() == fake.stride()


@pytest.mark.parametrize("name", CALLS)
def test_boxes_of_each_image(name: str) -> None:
    image = drawn(3, 2, 9, 13)
    parts = [boxes_on(1, 18, 26, count, seed=count)[:, 1:] for count in (4, 0, 2)]
    rows = torch.cat([torch.tensor([[0.0]] * 4 + [[2.0]] * 2), torch.cat(parts)], 1)
    expected = CALLS[name](image, rows)
    assert torch.equal(CALLS[name](image, parts), expected)
    assert torch.equal(CALLS[name](image, tuple(parts)), expected)
    assert torch.equal(CALLS[name](image, [p.double() for p in parts]), expected)
    whole = [p.round() for p in parts]
    assert torch.equal(CALLS[name](image, [p.to(torch.int16) for p in whole]), CALLS[name](image, whole))
    assert CALLS[name](image[:0], []).shape[:2] == (0, 2)


def test_an_index_of_an_image_is_not_narrowed() -> None:
    image = torch.arange(300.0).view(300, 1, 1, 1).half()
    boxes = [torch.tensor([[0.0, 0, 1, 1]], dtype=torch.bfloat16)] * 300
    assert torch.equal(roi_align(image, boxes, 1).flatten(), image.flatten())


def test_an_index_outside_is_an_error() -> None:
    image = drawn(2, 1, 4, 4)
    for index in (2.0, -1.0, -0.5, 1e30):
        for call in CALLS.values():
            with pytest.raises(
                ValueError, match=r"boxes: expected the index of an image, in \[0, B\), first in each row"
            ):
                call(image, torch.tensor([[index, 0, 0, 2, 2]]))


MAP, ROW = torch.zeros(1, 3, 4, 4), torch.zeros(1, 5)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (([1], ROW, 2), TypeError, "input: expected a torch.Tensor, got list"),
        ((MAP[0], ROW, 2), ValueError, r"input: expected shape \(B, C, H, W\), got \(3, 4, 4\)"),
        ((MAP.int(), ROW, 2), TypeError, "input: expected dtype floating, got torch.int32"),
        ((MAP, ROW[:, :4], 2), ValueError, r"boxes: expected shape \(K, 5\) or a list of \(K, 4\), got \(1, 4\)"),
        ((MAP, np.zeros((1, 5)), 2), TypeError, "boxes: expected a torch.Tensor, got ndarray"),
        ((MAP, [ROW[:, 1:]] * 2, 2), ValueError, "boxes: expected one tensor per image, B=1, got 2"),
        ((MAP, [ROW], 2), ValueError, r"boxes\[0\]: expected shape \(K, 4\), got \(1, 5\)"),
        ((MAP, ROW.bool(), 2), TypeError, "boxes: expected dtype floating or integer, got torch.bool"),
        ((MAP, ROW.to("meta"), 2), TypeError, "boxes: expected device cpu as input, got meta"),
        ((MAP, ROW, 0), ValueError, "output_size: expected 1 or more, got 0"),
        ((MAP, ROW, (1, 2, 3)), ValueError, "output_size: expected an integer or .height, width., got"),
        ((MAP, ROW, 2.5), TypeError, "output_size: expected an integer or .height, width., got 2.5"),
        ((MAP, ROW, 2, "1"), TypeError, "spatial_scale: expected a number, got str"),
    ],
)
def test_messages(args: tuple[Any, ...], error: type[Exception], message: str) -> None:
    for operation in (roi_align, roi_pool):
        with pytest.raises(error, match=message):
            operation(*args)


def test_messages_of_its_own() -> None:
    image, boxes = torch.zeros(1, 3, 4, 4), torch.zeros(1, 5)
    with pytest.raises(ValueError, match="mode: expected one of 'avg', 'max', got 'mean'"):
        roi_align(image, boxes, 2, mode="mean")
    with pytest.raises(TypeError, match="sampling_ratio: expected an integer, got float"):
        roi_align(image, boxes, 2, 1.0, 2.0)  # type: ignore[arg-type]


def test_what_the_torch_operations_assert() -> None:
    image, boxes, ops = torch.zeros(1, 3, 4, 4), torch.zeros(2, 5), torch.ops.visionops
    for call in (
        lambda: ops.roi_align_native(image[0], boxes, 2, 2, 1.0, 2, True),
        lambda: ops.roi_align_native(image.int(), boxes, 2, 2, 1.0, 2, True),
        lambda: ops.roi_align_native(image, boxes[:, :4], 2, 2, 1.0, 2, True),
        lambda: ops.roi_align_native(image, boxes.int(), 2, 2, 1.0, 2, True),
        lambda: ops.roi_align_native(image, boxes, 0, 2, 1.0, 2, True),
        lambda: ops.roi_align_backward_native(image, boxes, 1, 4, 4, 1.0, 2, True, False, False),
        lambda: ops.roi_align_backward_native(image[0], boxes, 1, 4, 4, 1.0, 2, True, False, False),
        lambda: ops.roi_align_backward_native(image, boxes[:1], 1, -4, 4, 1.0, 2, True, False, False),
        lambda: ops.roi_align_max_backward_native(image, image, boxes, 1.0, 2, True, False),
        lambda: ops.roi_pool_backward_native(image, image[:, :2].int(), boxes[:1], 1, 4, 4, 1.0, False),
        lambda: ops.roi_pool_backward_native(image, image, boxes[:1], 1, 4, 4, 1.0, False),
        lambda: ops.roi_pool_backward_native(image, image.int(), boxes[:1], 1, 1 << 16, 1 << 16, 1.0, False),
        lambda: ops.roi_pool_backward_native(image.int(), image.int(), boxes[:1], 1, 4, 4, 1.0, False),
        lambda: ops.roi_pool_with_argmax_native(image, boxes, 2, -1, 1.0),
        lambda: ops.roi_pool_native(image, boxes, 2, -1, 1.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


@settings(max_examples=60, deadline=None)
@given(
    box=st.tuples(*[st.floats(-20, 60, width=32)] * 4),
    sampling_ratio=st.integers(-1, 4),
    aligned=st.booleans(),
    data=st.data(),
)
def test_any_box_agrees_with_the_reference(box: Any, sampling_ratio: int, aligned: bool, data: Any) -> None:
    mode = data.draw(st.sampled_from(["avg", "max"]))
    image, boxes = drawn(1, 2, 20, 37), torch.tensor([[0, *box]])
    options = (3, 2), 0.7, sampling_ratio, aligned
    expected = reference.roi_align(image.numpy(), boxes.numpy(), *options, mode=mode)
    for layout in (image, last(image)):
        compare(roi_align(layout, boxes, *options, mode=mode).numpy(), expected, "float64", 16)
    compare(
        roi_pool(image, boxes, (3, 2), 0.7).numpy(),
        reference.roi_pool(image.numpy(), boxes.numpy(), (3, 2), 0.7),
        "float64",
    )


@settings(max_examples=30, deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.tuples(*[st.floats(8, 12, width=32)] * 4))
def test_a_plane_is_read_at_the_centre_of_each_bin(a: float, b: float, c: float, corners: Any) -> None:
    y, x = torch.meshgrid(*[torch.arange(30, dtype=torch.float64)] * 2, indexing="ij")
    image = (a * y + b * x + c)[None, None]
    left, top, width, height = corners
    box = torch.tensor([[0, left, top, left + width, top + height]])
    result = roi_align(image, box, 4, 1.0, 3, True)[0, 0]
    (left, top, right, bottom), bins = box[0, 1:].double(), torch.arange(4).double() + 0.5
    rows, columns = top - 0.5 + (bottom - top) / 4 * bins, left - 0.5 + (right - left) / 4 * bins
    torch.testing.assert_close(result, a * rows[:, None] + b * columns + c, rtol=1e-9, atol=1e-9)
