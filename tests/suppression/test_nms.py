"""nms and batched_nms beyond agreement with their reference: errors, padded forms, and torch's own decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import visionops.numpy
from visionops import batched_nms, nms
from visionops.boxes.random_boxes import clustered_boxes, scattered_boxes, uniform_boxes
from visionops.suppression import reference

BOXES = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])
SCORES = torch.tensor([0.9, 0.8, 0.7])
IDS = torch.tensor([1, 1, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nms(BOXES, SCORES[:2], 0.5), ValueError, "scores: expected shape (N,) with N=3, got (2,)"),
        (
            lambda: nms(BOXES[:, :3], SCORES, 0.5),
            ValueError,
            "boxes: expected shape (N, 4) or padded (B, N, 4), got (3, 3)",
        ),
        (
            lambda: nms(BOXES[None], SCORES[None], 0.5),
            ValueError,
            "boxes: expected shape (N, 4) or padded (B, N, 4), got (1, 3, 4)",
        ),
        (lambda: nms(BOXES[0], SCORES, 0.5), ValueError, "boxes: expected shape (N, 4) or padded (B, N, 4), got (4,)"),
        (lambda: nms(BOXES, SCORES[:, None], 0.5), ValueError, "scores: expected shape (N,) with N=3, got (3, 1)"),
        (lambda: nms(BOXES, SCORES, 1.5), ValueError, "iou_threshold: expected a number in [0, 1], got 1.5"),
        (lambda: nms(BOXES, SCORES, -0.1), ValueError, "iou_threshold: expected a number in [0, 1], got -0.1"),
        (lambda: nms(BOXES, SCORES, float("nan")), ValueError, "iou_threshold: expected a number, got nan"),
        (lambda: nms(BOXES, SCORES, "0.5"), TypeError, "iou_threshold: expected a number, got str"),
        (
            lambda: nms(BOXES, SCORES, 0.5, score_threshold=2**1024),
            ValueError,
            "score_threshold: expected a number that a float can hold, got one of 1025 bits",
        ),
        (
            lambda: nms(BOXES, SCORES, 0.5, score_threshold=float("nan")),
            ValueError,
            "score_threshold: expected a number, got nan",
        ),
        (lambda: nms(BOXES, SCORES, 0.5, max_output=-1), ValueError, "max_output: expected 0 or more, got -1"),
        (lambda: nms(BOXES, SCORES, 0.5, max_output=2.0), TypeError, "max_output: expected an integer, got float"),
        (
            lambda: nms(BOXES, SCORES, 0.5, max_output=1 << 63),
            ValueError,
            "max_output: expected an integer of 64 bits, got 9223372036854775808",
        ),
        (
            lambda: nms(BOXES, SCORES, 0.5, padded=True),
            ValueError,
            "max_output: expected a number of boxes with padded=True, got None",
        ),
        (lambda: nms(BOXES, SCORES, 0.5, pixel_offset=2), ValueError, "pixel_offset: expected one of 0, 1, got 2"),
        (lambda: nms(BOXES.numpy(), SCORES, 0.5), TypeError, "boxes: expected a torch.Tensor, got ndarray"),
        (lambda: nms(BOXES, SCORES.long(), 0.5), TypeError, "scores: expected dtype floating, got torch.int64"),
        (
            lambda: nms(BOXES.to(torch.complex64), SCORES, 0.5),
            TypeError,
            "boxes: expected dtype floating or integer, got torch.complex64",
        ),
        (lambda: nms(BOXES, SCORES.to("meta"), 0.5), TypeError, "scores: expected device cpu as boxes, got meta"),
        (
            lambda: batched_nms(BOXES, SCORES, IDS.float(), 0.5),
            TypeError,
            "idxs: expected dtype integer, got torch.float32",
        ),
        (lambda: batched_nms(BOXES, SCORES, IDS[:1], 0.5), ValueError, "idxs: expected shape (N,) with N=3, got (1,)"),
        (
            lambda: batched_nms(BOXES[None], SCORES[None], IDS, 0.5, padded=True, max_output=3),
            ValueError,
            "idxs: expected shape (B, N) with B=1, N=3, got (3,)",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "inputs",
    [
        (BOXES, SCORES[:2], None, 0.5, None, None, 0),
        (BOXES[:, :3], SCORES, None, 0.5, None, None, 0),
        (BOXES, SCORES, IDS[:2], 0.5, None, None, 0),
        (BOXES, SCORES, IDS.int(), 0.5, None, None, 0),
        (BOXES, SCORES.long(), None, 0.5, None, None, 0),
        (BOXES > 0, SCORES, None, 0.5, None, None, 0),
        (BOXES, SCORES, None, 0.5, None, -1, 0),
        (BOXES[None], SCORES[None], None, 0.5, None, None, 0),
    ],
)
def test_the_torch_operation_asserts_what_memory_safety_needs(inputs: tuple[Any, ...]) -> None:
    # Exported graphs call it without the public function's checks.
    with pytest.raises((ValueError, RuntimeError)):
        torch.ops.visionops.nms_native(*inputs)


def _images(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    boxes = np.stack([generate(rng, 700) for generate in (uniform_boxes, clustered_boxes, scattered_boxes)])
    scores, ids = rng.uniform(size=(3, 700)), rng.integers(0, 5, (3, 700))
    scores[1, ::7] = np.nan
    return torch.from_numpy(boxes).to(dtype), torch.from_numpy(scores).to(dtype), torch.from_numpy(ids)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("max_output", [0, 1, 100, 700, 1000])
def test_padded_holds_each_image_alone(dtype: torch.dtype, max_output: int) -> None:
    boxes, scores, ids = _images(dtype)
    options = {"score_threshold": 0.05, "max_output": max_output}
    indices, counts = batched_nms(boxes, scores, ids, 0.4, padded=True, **options)
    assert indices.shape == (3, max_output)
    assert counts.shape == (3,)
    for image in range(3):
        alone = batched_nms(boxes[image], scores[image], ids[image], 0.4, **options)
        padding = [-1] * (max_output - len(alone))
        assert indices[image].tolist() == alone.tolist() + padding
        assert counts[image].item() == len(alone)
        single, count = batched_nms(boxes[image], scores[image], ids[image], 0.4, padded=True, **options)
        assert torch.equal(single, indices[image])
        assert count.shape == ()
        assert count == counts[image]


def test_padded_of_no_images_and_no_boxes() -> None:
    indices, counts = nms(torch.empty(0, 5, 4), torch.empty(0, 5), 0.5, max_output=3, padded=True)
    assert indices.shape == (0, 3)
    assert counts.shape == (0,)
    indices, counts = nms(torch.empty(2, 0, 4), torch.empty(2, 0), 0.5, max_output=3, padded=True)
    assert indices.tolist() == [[-1] * 3] * 2
    assert counts.tolist() == [0, 0]


def test_padded_composes_with_vmap() -> None:
    boxes, scores, _ = _images(torch.float32)

    def of_one(b: torch.Tensor, s: torch.Tensor) -> Any:
        return nms(b, s, 0.4, max_output=50, padded=True)

    expected = nms(boxes, scores, 0.4, max_output=50, padded=True)
    for got, wanted in zip(torch.func.vmap(of_one)(boxes, scores), expected, strict=True):
        assert torch.equal(got, wanted)
    shared = torch.func.vmap(of_one, in_dims=(None, 0))(boxes[0], scores)
    assert torch.equal(shared[0][1], nms(boxes[0], scores[1], 0.4, max_output=50, padded=True)[0])
    twice = torch.func.vmap(torch.func.vmap(of_one))(boxes[None], scores[None])
    assert torch.equal(twice[0][0], expected[0])
    indices, counts = torch.func.vmap(of_one)(boxes[:, :0], scores[:, :0])
    assert indices.tolist() == [[-1] * 50] * len(boxes)
    assert counts.tolist() == [0] * len(boxes)


def test_vmap_over_a_result_of_unknown_size_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="nms: vmap is not defined"):
        torch.func.vmap(lambda b: nms(b, SCORES, 0.5))(BOXES[None])


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 40).flatmap(
        lambda n: st.tuples(
            st.lists(st.tuples(*[st.integers(-8, 8)] * 4), min_size=n, max_size=n),
            st.lists(st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, np.nan, np.inf, -np.inf]), min_size=n, max_size=n),
            st.lists(st.integers(-2, 2), min_size=n, max_size=n),
        )
    ),
    st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 1.0]),
    st.sampled_from([None, 0.0, 0.25]),
    st.sampled_from([None, 0, 3]),
    st.sampled_from([0, 1]),
)
def test_small_integer_boxes_meet_every_tie(
    drawn: Any, threshold: float, score_threshold: float | None, max_output: int | None, offset: int
) -> None:
    boxes, scores = np.array(drawn[0], np.float32).reshape(-1, 4), np.array(drawn[1], np.float32)
    ids = np.array(drawn[2], np.int64)
    options = {"score_threshold": score_threshold, "max_output": max_output, "pixel_offset": offset}
    expected = reference.batched_nms(boxes, scores, ids, threshold, **options)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(ids)
    assert batched_nms(*tensors, threshold, **options).tolist() == expected.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("generate", [uniform_boxes, clustered_boxes, scattered_boxes])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_large_inputs(generate: Any, threshold: float) -> None:
    rng = np.random.default_rng(7)
    boxes, scores = generate(rng, 20_000).astype(np.float32), rng.uniform(size=20_000).astype(np.float32)
    expected = reference.nms(boxes, scores, threshold)
    assert nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).tolist() == expected.tolist()


def test_classes_of_an_empty_list() -> None:
    nothing = torch.tensor([])
    assert batched_nms(BOXES[:0], SCORES[:0], nothing, 0.5).tolist() == []
    assert visionops.numpy.batched_nms(np.zeros((0, 4)), np.array([]), np.array([]), 0.5).tolist() == []
