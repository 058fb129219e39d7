"""On a real GPU: results are the CPU's, streams are torch's, no host waits, graphs replay with other inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import visionops
from on_a_gpu import GpuCall, conv, norm, pool, roi, suppression
from visionops import batched_nms, box_iou, nms
from visionops._backend import HAS_TRITON
from visionops.suppression.nms import NMS

WHY_NOT = NMS.backends[0].why_not(NMS, "cuda", torch.float32) if torch.cuda.is_available() else "there is no GPU"
if WHY_NOT is None and not HAS_TRITON:
    WHY_NOT = "triton is not installed"
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

CALLS = [call for room in (suppression, conv, norm, pool, roi) for call in room.calls()]
over_all_calls = pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])


@over_all_calls
def test_another_stream(call: GpuCall) -> None:
    inputs = call.inputs(0)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there = call.call(*(t.cuda() for t in inputs))
    stream.synchronize()
    call.check(there, inputs)


@over_all_calls
def test_no_host_waits(call: GpuCall) -> None:
    there = [t.cuda() for t in call.inputs(0)]
    call.call(*there)  # what is compiled and chosen on first use is
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call.call(*there)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@over_all_calls
def test_graphs_replay_with_other_inputs(call: GpuCall) -> None:
    static = [t.cuda() for t in call.inputs(0)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call.call(*static)  # what is compiled and chosen on first use is
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call.call(*static)
    for seed in (1, 2):
        inputs = call.inputs(seed)
        for place, value in zip(static, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        call.check(results, inputs)


@pytest.mark.parametrize("n", suppression.SIZES)
def test_indices_of_one_image(n: int) -> None:
    boxes, scores, classes = (t[0] for t in suppression.candidates(n))
    there = boxes.cuda(), scores.cuda(), classes.cuda()
    assert torch.equal(nms(*there[:2], 0.5).cpu(), nms(boxes, scores, 0.5))
    assert torch.equal(batched_nms(*there, 0.5).cpu(), batched_nms(boxes, scores, classes, 0.5))


@pytest.mark.parametrize("mode", ["iou", "ciou"])
def test_a_matrix_of_many_tiles(mode: str) -> None:
    boxes = suppression.candidates(3001)[0].reshape(-1, 4)
    there = box_iou(boxes[:3001].cuda(), boxes[3001:].cuda(), mode=mode)
    torch.testing.assert_close(there.cpu(), box_iou(boxes[:3001], boxes[3001:], mode=mode), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call", [call for call in CALLS if call.name.endswith("gather")], ids=lambda call: call.name)
def test_gathered_gradients_are_bit_identical(call: GpuCall) -> None:
    inputs = [t.cuda() for t in call.inputs(0)]
    first, *others = (call.call(*inputs) for _ in range(4))
    assert all(torch.equal(a, b) for other in others for a, b in zip(other, first, strict=True))


def test_a_separable_block_learns() -> None:
    inputs = conv.block(torch.float32)
    grads = []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in inputs]
        (out,) = conv.separable(*leaves)
        grads.append(torch.autograd.grad(out.square().mean(), leaves))
    for here, there in zip(*grads, strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)


def test_everything_compiles_by_inductor() -> None:
    inputs = [t.cuda() for t in suppression.candidates(300)]

    def detect(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
        keep = batched_nms(boxes[0], scores[0], classes[0], 0.5)
        return box_iou(boxes[0][keep] * 2, boxes[1], mode="giou"), *suppression.padded(boxes, scores, classes)

    torch._dynamo.reset()
    for got, expected in zip(torch.compile(detect, fullgraph=True)(*inputs), detect(*inputs), strict=True):
        torch.testing.assert_close(got, expected)


def test_an_operation_without_a_gpu_kernel_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"box_area: no backend runs torch\.float32 on cuda"):
        visionops.box_area(torch.zeros(1, 4, device="cuda"))
