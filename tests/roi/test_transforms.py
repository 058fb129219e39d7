"""roi_align and roi_pool under torch's transforms: autocast, vmap, compile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import visionops
from contract import to_numpy
from drawn_rois import CALLS, boxes_on, drawn, last
from visionops import nms, roi_align, roi_pool
from visionops.roi import reference
from visionops.testing import compare


def test_autocast_leaves_coordinates_alone() -> None:
    image, boxes = drawn(1, 3, 9, 13, dtype=torch.float32), boxes_on(1, 9, 13)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(roi_align(image, boxes, 3), roi_align(image, boxes, 3))
        mixed = roi_align(image.bfloat16(), [boxes[:, 1:]], 3)
    compare(
        to_numpy(mixed).astype(np.float64),
        reference.roi_align(to_numpy(image.bfloat16()), boxes.numpy(), 3),
        "bfloat16",
        4,
    )


@pytest.mark.parametrize("name", CALLS)
def test_vmap_over_boxes_and_maps(name: str) -> None:
    call, image = CALLS[name], drawn(3, 2, 4, 9, 13)
    boxes = torch.stack([boxes_on(2, 18, 26, seed=seed) for seed in range(3)])
    boxes[1, 2, 1] = torch.nan
    vmap = torch.func.vmap
    assert torch.equal(vmap(call)(image, boxes), torch.stack([call(i, b) for i, b in zip(image, boxes, strict=True)]))
    assert torch.equal(vmap(call, (None, 0))(image[0], boxes), torch.stack([call(image[0], b) for b in boxes]))
    assert torch.equal(
        vmap(call, (2, None))(image.movedim(0, 2), boxes[0]), torch.stack([call(i, boxes[0]) for i in image])
    )
    grads = vmap(torch.func.grad(lambda i, b: call(i, b).pow(2).sum()))(image, boxes)
    for i, b, got in zip(image, boxes, grads, strict=True):
        leaf = i.clone().requires_grad_()
        call(leaf, b).pow(2).sum().backward()
        torch.testing.assert_close(got, leaf.grad)
    # An index that is wrong in one call is not right for the next one's images.
    boxes[0, 0, 0] = 2
    with pytest.raises(ValueError, match="index of an image"):
        vmap(call)(image, boxes)


@pytest.mark.parametrize("name", CALLS)
def test_vmap_over_no_calls(name: str) -> None:
    call, image, boxes = CALLS[name], drawn(2, 4, 9, 13), boxes_on(2, 9, 13)
    none = image.expand(0, *image.shape), boxes.expand(0, *boxes.shape)
    squares = torch.func.grad(lambda i, b: call(i, b).pow(2).sum())
    for dims, args in (((0, 0), none), ((0, None), (none[0], boxes)), ((None, 0), (image, none[1]))):
        assert torch.func.vmap(call, dims)(*args).shape == (0, *call(image, boxes).shape)
        assert torch.func.vmap(squares, dims)(*args).shape == (0, *image.shape)
    # torch computes the Jacobian of no regions as a vmap over no rows.
    nothing = call(image, boxes[:0])
    assert torch.func.jacrev(call)(image, boxes[:0]).shape == (*nothing.shape, *image.shape)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_detector_s_head_compiles_fullgraph(kept: int) -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [6, 0, 9, 9], [1, 6, 4, 9]])[:kept]
    image, scores = drawn(1, 3, 10, 10, dtype=torch.float32), torch.linspace(0.9, 0.5, kept)

    def head(image: Tensor, boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        found = boxes[nms(boxes, scores, 0.5)]
        rows = torch.cat([torch.zeros_like(found[:, :1]), found], 1)
        return (
            roi_align(image, [found], 2, aligned=True), roi_align(image, rows, 2, mode="max"), roi_pool(image, rows, 2),
            visionops.multiscale_roi_align([image, image[..., ::2, ::2].contiguous()], [found], 2, [1.0, 0.5]),
        )  # fmt: skip

    for layout in (image, last(image)):
        torch._dynamo.reset()
        compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
        for actual, expected in zip(compiled(layout, boxes, scores), head(layout, boxes, scores), strict=True):
            assert torch.equal(actual, expected)
            assert actual.shape[0] == kept


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's own, in tracing any autograd.Function
def test_its_gradient_compiles_fullgraph() -> None:
    boxes = boxes_on(1, 18, 26)
    for call in CALLS.values():
        torch._dynamo.reset()
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=True)
        grads = []
        for function in (call, compiled):
            leaf = drawn(1, 3, 9, 13).requires_grad_()
            function(leaf, boxes).pow(2).sum().backward()
            grads.append(leaf.grad)
        torch.testing.assert_close(*grads)
