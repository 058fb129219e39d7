"""The box operations other than IoU beyond agreement with their reference: errors and what their gradients mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from visionops import (
    box_area,
    box_convert,
    clip_boxes_to_image,
    mask_iou,
    mask_matrix_nms,
    masks_to_boxes,
    remove_small_boxes,
)

BOXES = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: box_area(BOXES[:, :3]), ValueError, "boxes: expected shape (..., 4), got (3, 3)"),
        (lambda: box_area(torch.tensor(1.0)), ValueError, "boxes: expected shape (..., 4), got ()"),
        (lambda: box_area(BOXES, pixel_offset=0.5), ValueError, "pixel_offset: expected one of 0, 1, got 0.5"),
        (lambda: box_area(BOXES > 1), TypeError, "boxes: expected dtype floating or integer, got torch.bool"),
        (lambda: box_area([0, 0, 1, 1]), TypeError, "boxes: expected a torch.Tensor, got list"),
        (
            lambda: box_convert(BOXES, "xxyy", "xyxy"),
            ValueError,
            "in_fmt: expected one of 'xyxy', 'xywh', 'cxcywh', got 'xxyy'",
        ),
        (
            lambda: box_convert(BOXES, "xyxy", None),
            ValueError,
            "out_fmt: expected one of 'xyxy', 'xywh', 'cxcywh', got None",
        ),
        (lambda: clip_boxes_to_image(BOXES, 5), TypeError, "size: expected (height, width), got 5"),
        (lambda: clip_boxes_to_image(BOXES, (5, -1)), ValueError, "size: expected 0 or more, got -1"),
        (lambda: clip_boxes_to_image(BOXES, (float("nan"), 1)), ValueError, "size: expected a number, got nan"),
        (lambda: clip_boxes_to_image(BOXES, ("5", 1)), TypeError, "size: expected a number, got str"),
        (lambda: remove_small_boxes(BOXES[None], 1.0), ValueError, "boxes: expected shape (N, 4), got (1, 3, 4)"),
        (lambda: remove_small_boxes(BOXES, float("nan")), ValueError, "min_size: expected a number, got nan"),
        (lambda: remove_small_boxes(BOXES, None), TypeError, "min_size: expected a number, got NoneType"),
        (lambda: masks_to_boxes(BOXES), ValueError, "masks: expected shape (N, H, W), got (3, 4)"),
        (
            lambda: masks_to_boxes(torch.zeros(1, 2, 2, dtype=torch.complex64)),
            TypeError,
            "masks: expected dtype bool, floating or integer, got torch.complex64",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


OPS = torch.ops.visionops


@pytest.mark.parametrize(
    "call",
    [
        lambda: OPS.box_area_native(BOXES[:, :3], 0),
        lambda: OPS.box_area_native(BOXES > 0, 0),
        lambda: OPS.box_area_backward_native(torch.ones(2), BOXES, 0),
        lambda: OPS.box_area_backward_native(torch.ones(3).double(), BOXES, 0),
        lambda: OPS.box_convert_native(BOXES[0, :3], 0, 1),
        lambda: OPS.box_convert_native(BOXES, 3, 0),
        lambda: OPS.box_convert_backward_native(BOXES.int(), 0, 1),
        lambda: OPS.clip_boxes_to_image_native(torch.tensor(1.0), 5.0, 5.0),
        lambda: OPS.clip_boxes_to_image_backward_native(torch.ones(3), BOXES, 5.0, 5.0),
        lambda: OPS.remove_small_boxes_native(BOXES[None], 1.0),
        lambda: OPS.masks_to_boxes_native(BOXES),
        lambda: OPS.masks_to_boxes_native(BOXES[None].to(torch.complex64)),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[], Any]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call()


def test_no_masks_of_any_size() -> None:
    # Their height times their width is -1 in 64 bits.
    masks = torch.empty(0, 1, 1).expand(0, 2**32 - 1, 2**32 + 1)
    assert masks_to_boxes(masks).shape == (0, 4)
    assert mask_iou(masks, masks).shape == (0, 0)
    assert mask_matrix_nms(masks, torch.empty(0))[0].shape == (0,)


def test_a_clipped_coordinate_has_no_gradient() -> None:
    boxes = torch.tensor([[-5.0, 2.0, 30.0, 70.0]], requires_grad=True)
    clip_boxes_to_image(boxes, (40, 60)).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_an_inverted_box_has_an_area_without_gradient() -> None:
    boxes = torch.tensor([[4.0, 0.0, 1.0, 5.0], [1.0, 0.0, 4.0, 5.0]], requires_grad=True)
    box_area(boxes).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.tolist() == [[0.0] * 4, [-5.0, -3.0, 5.0, 3.0]]


def test_mask_iou_of_a_batch_of_images() -> None:
    generator = torch.Generator().manual_seed(0)
    masks1 = torch.rand(3, 4, 5, 7, generator=generator) < 0.5
    masks2 = torch.rand(3, 2, 5, 7, generator=generator) < 0.5
    expected = torch.stack([mask_iou(*pair) for pair in zip(masks1, masks2, strict=True)])
    assert torch.equal(torch.func.vmap(mask_iou)(masks1, masks2), expected)
    shared = torch.func.vmap(mask_iou, in_dims=(0, None))(masks1, masks2[0])
    assert torch.equal(shared[0], expected[0])
    with pytest.raises(ValueError, match="vmap: expected at least one example, got none"):
        torch.func.vmap(mask_iou)(masks1[:0], masks2[:0])
