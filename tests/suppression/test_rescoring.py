"""soft_nms, matrix_nms, mask_matrix_nms and fast_nms beyond agreement with their references."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fresh import printed
from visionops import fast_nms, mask_iou, mask_matrix_nms, matrix_nms, nms, soft_nms
from visionops._backend import INTERPRETED
from visionops.boxes.random_boxes import clustered_boxes

BOXES = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])
SCORES = torch.tensor([0.9, 0.8, 0.7])
IDS = torch.tensor([1, 1, 1])
MASKS = torch.ones(3, 2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: soft_nms(BOXES, SCORES, method="hard"),
            ValueError,
            "method: expected one of 'linear', 'gaussian', got 'hard'",
        ),
        (lambda: soft_nms(BOXES, SCORES, sigma=0.0), ValueError, "sigma: expected a finite number above 0, got 0.0"),
        (lambda: soft_nms(BOXES, SCORES, sigma=float("nan")), ValueError, "sigma: expected a number, got nan"),
        (
            lambda: soft_nms(BOXES, SCORES, iou_threshold=2),
            ValueError,
            "iou_threshold: expected a number in [0, 1], got 2",
        ),
        (lambda: soft_nms(BOXES, SCORES[:2]), ValueError, "scores: expected shape (N,) with N=3, got (2,)"),
        (lambda: soft_nms(BOXES, SCORES, IDS[:2]), ValueError, "idxs: expected shape (N,) with N=3, got (2,)"),
        (lambda: soft_nms(BOXES, SCORES, IDS.float()), TypeError, "idxs: expected dtype integer, got torch.float32"),
        (
            lambda: soft_nms(BOXES[None], SCORES[None]),
            ValueError,
            "boxes: expected shape (N, 4) or padded (B, N, 4), got (1, 3, 4)",
        ),
        (
            lambda: soft_nms(BOXES, SCORES, padded=True),
            ValueError,
            "max_output: expected a number of boxes with padded=True, got None",
        ),
        (
            lambda: matrix_nms(BOXES, SCORES, kernel="rbf"),
            ValueError,
            "kernel: expected one of 'gaussian', 'linear', got 'rbf'",
        ),
        (lambda: matrix_nms(BOXES, SCORES, sigma=-1), ValueError, "sigma: expected a finite number above 0, got -1"),
        (
            lambda: mask_matrix_nms(MASKS[0], SCORES),
            ValueError,
            "masks: expected shape (N, H, W) or padded (B, N, H, W), got (2, 2)",
        ),
        (lambda: mask_matrix_nms(MASKS, SCORES[:1]), ValueError, "scores: expected shape (N,) with N=3, got (1,)"),
        (
            lambda: mask_matrix_nms(MASKS[None], SCORES[None], IDS, padded=True, max_output=1),
            ValueError,
            "idxs: expected shape (B, N) with B=1, N=3, got (3,)",
        ),
        (
            lambda: mask_matrix_nms(MASKS.to(torch.complex64), SCORES),
            TypeError,
            "masks: expected dtype bool, floating or integer, got torch.complex64",
        ),
        (lambda: mask_iou(MASKS, MASKS[:, :1]), ValueError, "masks2: expected H=2, W=2 as masks1, got (3, 1, 2)"),
        (lambda: mask_iou(MASKS, MASKS[0]), ValueError, "masks2: expected shape (M, H, W), got (2, 2)"),
        (
            lambda: fast_nms(BOXES, SCORES, iou_threshold=-1),
            ValueError,
            "iou_threshold: expected a number in [0, 1], got -1",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("soft_nms", (BOXES, SCORES[:2], None, 0, 0.5, 0.5, None, None, 0)),
        ("soft_nms", (BOXES, SCORES, None, 7, 0.5, 0.5, None, None, 0)),
        ("soft_nms", (BOXES, SCORES, None, 1, 0.5, 0.0, None, None, 0)),
        ("matrix_nms", (BOXES[:, :3], SCORES, None, 0, 2.0, None, None, 0)),
        ("matrix_nms", (BOXES, SCORES, None, -1, 2.0, None, None, 0)),
        ("mask_matrix_nms", (MASKS, SCORES[:2], None, 0, 2.0, None, None)),
        ("mask_matrix_nms", (MASKS[0], SCORES, None, 0, 2.0, None, None)),
        ("mask_matrix_nms", (MASKS, SCORES, IDS[:2], 0, 2.0, None, None)),
        ("mask_iou", (MASKS, MASKS[:, :1])),
        ("fast_nms", (BOXES, SCORES, IDS[:2], 0.5, None, None, 0)),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(name: str, inputs: tuple[Any, ...]) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        getattr(torch.ops.visionops, f"{name}_native")(*inputs)


def _images(n: int = 400) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes, masks, scores and class ids of three images."""
    rng = np.random.default_rng(3)
    boxes = np.stack([clustered_boxes(rng, n, 40, 30, objects=8) for _ in range(3)])
    low, high = boxes[..., None, None, :2].round(), boxes[..., None, None, 2:].round()
    y, x = np.mgrid[:30, :40]
    masks = (x >= low[..., 0]) & (x < high[..., 0]) & (y >= low[..., 1]) & (y < high[..., 1])
    scores, ids = rng.uniform(size=(3, n)), rng.integers(0, 5, (3, n))
    scores[1, ::7] = np.nan
    scores[2, ::5] *= -1
    return tuple(torch.from_numpy(a) for a in (boxes, masks, scores, ids))  # type: ignore[return-value]


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "soft linear": (soft_nms, {"score_threshold": 0.01}),
    "soft gaussian": (soft_nms, {"method": "gaussian", "score_threshold": 0.01}),
    "matrix gaussian": (matrix_nms, {"score_threshold": 0.05}),
    "matrix linear": (matrix_nms, {"kernel": "linear"}),
    "masks": (mask_matrix_nms, {"score_threshold": 0.05}),
    "fast": (fast_nms, {"score_threshold": 0.05}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("max_output", [0, 1, 50, 1000])
@pytest.mark.parametrize("name", CALLS)
def test_padded_holds_each_image_alone(name: str, max_output: int, dtype: torch.dtype) -> None:
    function, options = CALLS[name]
    boxes, masks, scores, ids = _images(120 if name == "masks" else 400)
    things = masks if name == "masks" else boxes.to(dtype)
    scores = scores.to(dtype)
    options = {**options, "max_output": max_output}
    *rows, counts = function(things, scores, ids, padded=True, **options)
    for image in range(3):
        alone = function(things[image], scores[image], ids[image], **options)
        for row, values, filler in zip(rows, alone if len(rows) == 2 else (alone,), (-1, 0), strict=False):
            count = len(values)
            assert counts[image] == count
            assert torch.equal(row[image, :count], values)
            assert (row[image, count:] == filler).all()
    mapped = torch.func.vmap(lambda *image: function(*image, padded=True, **options))(things, scores, ids)
    for got, wanted in zip(mapped, (*rows, counts), strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.skipif(not INTERPRETED, reason="Triton is not interpreted here")
@pytest.mark.parametrize("max_output", [0, 30, 1000])
@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith("soft")])
def test_images_in_triton(name: str, max_output: int) -> None:
    function, options = CALLS[name]
    boxes, masks, scores, ids = _images(70 if name == "masks" else 200)
    things = masks if name == "masks" else boxes
    for classes in (ids, None):
        args, more = (things, scores, classes), {**options, "padded": True, "max_output": max_output}
        native, triton = (function(*args, backend=backend, **more) for backend in ("native", "triton"))
        for n, t in zip(native, triton, strict=True):
            torch.testing.assert_close(t, n, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not INTERPRETED, reason="Triton is not interpreted here")
@pytest.mark.parametrize("threshold", [-1e300, 1e300])
def test_a_score_threshold_beyond_float32_in_triton(threshold: float) -> None:
    for function, things in ((fast_nms, BOXES), (matrix_nms, BOXES), (mask_matrix_nms, MASKS)):
        native, triton = (
            function(things, SCORES, score_threshold=threshold, backend=backend) for backend in ("native", "triton")
        )
        torch.testing.assert_close(triton, native)


def test_padded_of_no_images_and_no_boxes() -> None:
    indices, scores, counts = soft_nms(torch.empty(0, 5, 4), torch.empty(0, 5), max_output=3, padded=True)
    assert (indices.shape, scores.shape, counts.shape) == ((0, 3), (0, 3), (0,))
    masks = torch.empty(2, 0, 4, 5, dtype=torch.bool)
    indices, scores, counts = mask_matrix_nms(masks, torch.empty(2, 0), max_output=3, padded=True)
    assert indices.tolist() == [[-1] * 3] * 2
    assert scores.tolist() == [[0.0] * 3] * 2
    assert counts.tolist() == [0, 0]


def test_vmap_over_images_without_boxes() -> None:
    for call, things in (
        (soft_nms, torch.empty(2, 0, 4)),
        (matrix_nms, torch.empty(2, 0, 4)),
        (mask_matrix_nms, torch.empty(2, 0, 5, 6)),
    ):
        padded = partial(call, max_output=3, padded=True)
        indices, scores, counts = torch.func.vmap(padded)(things, torch.empty(2, 0))
        assert indices.tolist() == [[-1] * 3] * 2
        assert scores.tolist() == [[0.0] * 3] * 2
        assert counts.tolist() == [0, 0]


SCORE = st.sampled_from([0.0, -0.0, 0.25, 0.5, 0.75, 1.0, -1.0, np.nan, np.inf, -np.inf])
DRAWN = st.integers(0, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.tuples(*[st.integers(-6, 6)] * 4), min_size=n, max_size=n),
        st.lists(SCORE, min_size=n, max_size=n),
        st.lists(st.integers(-1, 1), min_size=n, max_size=n),
    )
)


@settings(deadline=None, max_examples=200)
@given(DRAWN, st.sampled_from(["linear", "gaussian"]), st.sampled_from([None, 0.0, 0.3]), st.sampled_from([0, 1]))
def test_scores_never_rise(drawn: Any, method: str, score_threshold: float | None, offset: int) -> None:
    boxes, scores = torch.tensor(drawn[0]).reshape(-1, 4).float(), torch.tensor(drawn[1], dtype=torch.float32)
    ids = torch.tensor(drawn[2], dtype=torch.int64)
    options: dict[str, Any] = {"score_threshold": score_threshold, "pixel_offset": offset}
    legal = scores >= 0
    for indices, decayed in (
        soft_nms(boxes, scores, ids, method=method, **options),
        matrix_nms(boxes, scores, ids, kernel=method, **options),
    ):
        assert not decayed.isnan().any()
        assert (decayed <= scores[indices]).all()
        assert (decayed[1:] <= decayed[:-1]).all()
        assert legal[indices].all()
        assert len(indices.unique()) == len(indices)
        if score_threshold is None:
            assert len(indices) == legal.sum()
        else:
            assert (decayed > score_threshold).all()


@settings(deadline=None, max_examples=100)
@given(DRAWN, st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 1.0]))
def test_fast_nms_keeps_a_part_of_nms(drawn: Any, threshold: float) -> None:
    boxes, scores = torch.tensor(drawn[0]).reshape(-1, 4).float(), torch.tensor(drawn[1], dtype=torch.float32)
    assert set(fast_nms(boxes, scores, iou_threshold=threshold).tolist()) <= set(nms(boxes, scores, threshold).tolist())


def test_results_carry_no_gradient() -> None:
    boxes, scores = BOXES.clone().requires_grad_(), SCORES.clone().requires_grad_()
    for indices, decayed in (soft_nms(boxes, scores), matrix_nms(boxes, scores), mask_matrix_nms(MASKS, scores)):
        assert not indices.requires_grad
        assert not decayed.requires_grad


@pytest.mark.measured
@pytest.mark.parametrize(
    "call", ["soft_nms(b, s)", "soft_nms(b, s, method='gaussian')", "matrix_nms(b, s)", "fast_nms(b, s)"]
)
def test_extra_memory(call: str) -> None:
    code = (
        "from visionops import soft_nms, matrix_nms, fast_nms\n"
        "torch.set_num_threads(1); b, s = torch.rand(5000, 4) * 500, torch.rand(5000); b[:, 2:] += b[:, :2]\n"
        "full = b, s; b, s = b[:300], s[:300]; " + call + "\n"
        "b, s = full; before = peak(); " + call + "; print(peak() - before)"
    )
    assert float(printed(code)) <= 1.0
