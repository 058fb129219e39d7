"""box_iou and its relatives beyond agreement with their reference: errors, gradients, and finiteness everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drawn_boxes import rows_of
from visionops import box_iou, complete_box_iou, wh_iou
from visionops.boxes.cases import MODES, few_pair
from visionops.boxes.random_boxes import clustered_boxes, uniform_boxes

BOXES = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])
SIZES = BOXES[:, 2:]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: box_iou(BOXES[0], BOXES), ValueError, "boxes1: expected shape (..., N, 4), got (4,)"),
        (lambda: box_iou(BOXES, BOXES[:, :3]), ValueError, "boxes2: expected shape (..., N, 4), got (3, 3)"),
        (
            lambda: box_iou(BOXES, BOXES[:2], aligned=True),
            ValueError,
            "boxes2: expected as many as boxes1, 3, got 2",
        ),
        (
            lambda: box_iou(BOXES.expand(2, 3, 4), BOXES.expand(5, 3, 4)),
            ValueError,
            "boxes2: expected leading sizes that broadcast with (2,) of boxes1, got (5,)",
        ),
        (
            lambda: box_iou(BOXES, BOXES, mode="eiou"),
            ValueError,
            "mode: expected one of 'iou', 'giou', 'diou', 'ciou', 'iof', got 'eiou'",
        ),
        (
            lambda: box_iou(BOXES, BOXES, mode=["iou"]),  # type: ignore[arg-type]
            ValueError,
            "mode: expected one of 'iou', 'giou', 'diou', 'ciou', 'iof', got ['iou']",
        ),
        (lambda: box_iou(BOXES, BOXES, pixel_offset=2), ValueError, "pixel_offset: expected one of 0, 1, got 2"),
        (lambda: box_iou(BOXES, BOXES, pixel_offset=1.0), ValueError, "pixel_offset: expected one of 0, 1, got 1.0"),
        (lambda: box_iou(BOXES.numpy(), BOXES), TypeError, "boxes1: expected a torch.Tensor, got ndarray"),
        (lambda: box_iou(BOXES, [[0, 0, 1, 1]]), TypeError, "boxes2: expected a torch.Tensor, got list"),
        (
            lambda: box_iou(BOXES > 1, BOXES),
            TypeError,
            "boxes1: expected dtype floating or integer, got torch.bool",
        ),
        (lambda: box_iou(BOXES, BOXES.to("meta")), TypeError, "boxes2: expected device cpu as boxes1, got meta"),
        (lambda: complete_box_iou(BOXES, BOXES[0]), ValueError, "boxes2: expected shape (..., N, 4), got (4,)"),
        (lambda: wh_iou(BOXES, SIZES), ValueError, "wh1: expected shape (..., N, 2), got (3, 4)"),
        (lambda: wh_iou(SIZES, SIZES[0]), ValueError, "wh2: expected shape (..., N, 2), got (2,)"),
        (lambda: wh_iou(SIZES > 1, SIZES), TypeError, "wh1: expected dtype floating or integer, got torch.bool"),
        (lambda: wh_iou(SIZES, SIZES.to("meta")), TypeError, "wh2: expected device cpu as wh1, got meta"),
        (
            lambda: wh_iou(SIZES.expand(2, 3, 2), SIZES.expand(5, 3, 2)),
            ValueError,
            "wh2: expected leading sizes that broadcast with (2,) of wh1, got (5,)",
        ),
        (lambda: wh_iou(SIZES, 3), TypeError, "wh2: expected a torch.Tensor, got int"),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "inputs",
    [
        (BOXES[0], BOXES, 0, False, 0),
        (BOXES[:, :3], BOXES[:, :3], 0, False, 0),
        (BOXES, BOXES.double(), 0, False, 0),
        (BOXES > 0, BOXES > 0, 0, False, 0),
        (BOXES, BOXES[None], 0, False, 0),
        (BOXES.expand(2, 3, 4), BOXES.expand(5, 3, 4), 0, False, 0),
        (BOXES, BOXES[:2], 0, True, 0),
        (BOXES, BOXES, -1, False, 0),
        (BOXES, BOXES, 5, False, 0),
        (BOXES.to(torch.complex64), BOXES.to(torch.complex64), 0, False, 0),
    ],
)
def test_the_torch_operation_asserts_what_memory_safety_needs(inputs: tuple[Any, ...]) -> None:
    # Exported graphs call it without the public function's checks.
    with pytest.raises((ValueError, RuntimeError)):
        torch.ops.visionops.box_iou_native(*inputs)


@pytest.mark.parametrize("grad", [torch.ones(3), torch.ones(3, 3).double(), torch.ones(3, 2)])
def test_the_backward_operation_asserts_the_gradients_shape_and_dtype(grad: Tensor) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        torch.ops.visionops.box_iou_backward_native(grad, BOXES, BOXES, 0, False, 0)


def test_mixed_dtypes_promote() -> None:
    assert box_iou(BOXES.half(), BOXES.double()).dtype == torch.float64
    assert box_iou(BOXES.int(), BOXES).dtype == torch.float32
    assert torch.equal(box_iou(BOXES.int(), BOXES), box_iou(BOXES, BOXES))
    # No integer is rounded to the narrow type of the result, nor overflows it.
    far, near = torch.tensor([[0, 0, 70_000, 10]]), torch.tensor([[0.0, 0, 7000, 10]])
    assert torch.equal(box_iou(far.int(), near.half()), torch.tensor([[0.1]]).half())
    odd, even = torch.tensor([[1001, 1001, 1003, 1003]]), torch.tensor([[1000.0, 1000, 1004, 1004]])
    for dtype in (torch.int16, torch.int64):
        assert torch.equal(box_iou(odd.to(dtype), even.bfloat16()), torch.tensor([[0.25]]).bfloat16())


def _ciou_with_constant_alpha(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """The authors' loss code as a formula of torch operations, over all pairs of proper boxes."""
    a, b = boxes1[:, None], boxes2[None]
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    common = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    iou = common / (size_a.prod(-1) + size_b.prod(-1) - common)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    distance = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    turn = torch.atan2(size_a[..., 0], size_a[..., 1]) - torch.atan2(size_b[..., 0], size_b[..., 1])
    v = 4 / math.pi**2 * turn**2
    alpha = (v / (1 - iou + v)).detach()
    return iou - (distance**2).sum(-1) / (hull**2).sum(-1) - alpha * v


def test_ciou_holds_alpha_constant_in_its_gradient() -> None:
    rng = np.random.default_rng(0)
    sides = [clustered_boxes(rng, 40, objects=3), uniform_boxes(rng, 30)]
    ours, theirs = ([torch.from_numpy(side).requires_grad_() for side in sides] for _ in range(2))
    weights = torch.from_numpy(rng.normal(size=(40, 30)))
    got, expected = box_iou(*ours, mode="ciou"), _ciou_with_constant_alpha(*theirs)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("offset", [0, 1])
def test_gradients_of_every_mode(mode: str, aligned: bool, offset: int) -> None:
    if mode == "ciou":
        mode = "diou"  # whose gradient ciou's contains; the rest of it is tested above
    first, second = (torch.from_numpy(side).requires_grad_() for side in few_pair())
    second = second[:2] if aligned else second
    assert torch.autograd.gradcheck(
        lambda a, b: box_iou(a, b, mode=mode, aligned=aligned, pixel_offset=offset), (first, second)
    )


@settings(deadline=None, max_examples=300)
@given(
    rows_of(st.floats(allow_nan=False, allow_infinity=False, width=32)),
    rows_of(st.floats(allow_nan=False, allow_infinity=False, width=32)),
    st.sampled_from(MODES),
    st.integers(0, 1),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_values_and_gradients_are_finite_for_all_finite_boxes(
    a: Any, b: Any, mode: str, offset: int, dtype: torch.dtype
) -> None:
    first, second = (torch.from_numpy(boxes).to(dtype).requires_grad_() for boxes in (a, b))
    value = box_iou(first, second, mode=mode, pixel_offset=offset)
    assert value.isfinite().all()
    assert (value <= 1).all()
    value.sum().backward()
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad.isfinite().all()
    assert second.grad.isfinite().all()


def test_a_gradient_needed_on_one_side_only() -> None:
    first = BOXES.clone().requires_grad_()
    box_iou(first, BOXES + 1).sum().backward()
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_gradients_of_broadcast_batches_sum_over_them() -> None:
    rng = np.random.default_rng(1)
    shared = torch.from_numpy(clustered_boxes(rng, 5, objects=1)).requires_grad_()
    batch = torch.from_numpy(clustered_boxes(rng, 12, objects=1)).reshape(3, 4, 4)
    box_iou(shared, batch, mode="giou").sum().backward()
    together, shared.grad = shared.grad, None
    sum(box_iou(shared, image, mode="giou").sum() for image in batch).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(together, shared.grad)


def test_empty_sides_have_gradients() -> None:
    none, some = torch.empty(0, 4, requires_grad=True), BOXES.clone().requires_grad_()
    box_iou(none, some).sum().backward()
    assert none.grad is not None
    assert none.grad.shape == (0, 4)
    assert torch.equal(some.grad, torch.zeros(3, 4))  # type: ignore[arg-type]


def test_a_third_argument_by_position_is_an_error() -> None:
    # torchvision has two; a mode given by position would hide a mistake.
    with pytest.raises(TypeError, match="positional"):
        box_iou(BOXES, BOXES, "giou")  # type: ignore[misc]
