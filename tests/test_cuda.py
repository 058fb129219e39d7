"""On a real GPU: no host waits in padded forms, graphs replay with other inputs, streams are torch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import visionops
from visionops import batched_nms, box_iou, fast_nms, matrix_nms, nms, soft_nms
from visionops.suppression.nms import NMS

WHY_NOT = NMS.backends[0].why_not(NMS, "cuda", torch.float32) if torch.cuda.is_available() else "there is no GPU"
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
SIZES = (0, 1, 257, 1100, 5000)


def candidates(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(2, n, 4, generator=generator) * 100
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.rand(2, n, generator=generator)
    return boxes, scores, torch.randint(7, (2, n), generator=generator)


def padded(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
    return (
        *nms(boxes, scores, 0.5, max_output=200, padded=True),
        *batched_nms(boxes, scores, classes, 0.5, max_output=200, padded=True),
        *fast_nms(boxes, scores, classes, max_output=200, padded=True),
        *(values for form in (soft_nms, matrix_nms) for values in form(boxes, scores, max_output=30, padded=True)[1:]),
        *soft_nms(boxes, scores, classes, method="gaussian", max_output=30, padded=True)[1:],
    )


def same(there: tuple[Tensor, ...], here: tuple[Tensor, ...]) -> bool:
    """Indices and counts exactly; decayed scores to roundings, and the indices beside them are not compared here."""
    pairs = [(a.cpu(), b) for a, b in zip(there, here, strict=True)]
    return all(torch.allclose(a, b, 1e-5, 1e-6) if a.is_floating_point() else torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def no_waits() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("n", SIZES)
def test_images_and_classes(n: int) -> None:
    inputs = candidates(n)
    assert same(padded(*(t.cuda() for t in inputs)), padded(*inputs))
    boxes, scores, classes = (t[0] for t in inputs)
    assert same(
        (nms(boxes.cuda(), scores.cuda(), 0.5), batched_nms(boxes.cuda(), scores.cuda(), classes.cuda(), 0.5)),
        (nms(boxes, scores, 0.5), batched_nms(boxes, scores, classes, 0.5)),
    )


@pytest.mark.usefixtures("no_waits")
def test_padded_forms_do_not_wait() -> None:
    padded(*(torch.empty(size, dtype=dtype, device="cuda") for size, dtype in (
        ((2, 500, 4), torch.float32), ((2, 500), torch.float32), ((2, 500), torch.int64)
    )))  # fmt: skip


@pytest.mark.parametrize("n", [257, 5000])
def test_graphs_replay_with_other_inputs(n: int) -> None:
    static = [t.cuda() for t in candidates(n)]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        padded(*static)  # what is loaded on first use is loaded
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = padded(*static)
    for seed in (1, 2):
        inputs = candidates(n, seed)
        for place, value in zip(static, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        assert same(results, padded(*inputs))


def test_another_stream() -> None:
    inputs = candidates(1100)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there = padded(*(t.cuda() for t in inputs))
    stream.synchronize()
    assert same(there, padded(*inputs))


@pytest.mark.parametrize("mode", ["iou", "ciou"])
def test_a_matrix_of_many_tiles(mode: str) -> None:
    boxes = candidates(3001)[0].reshape(-1, 4)
    there = box_iou(boxes[:3001].cuda(), boxes[3001:].cuda(), mode=mode)
    torch.testing.assert_close(there.cpu(), box_iou(boxes[:3001], boxes[3001:], mode=mode), rtol=1e-5, atol=1e-5)


def test_everything_compiles_by_inductor() -> None:
    inputs = [t.cuda() for t in candidates(300)]

    def detect(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
        keep = batched_nms(boxes[0], scores[0], classes[0], 0.5)
        return box_iou(boxes[0][keep] * 2, boxes[1], mode="giou"), *padded(boxes, scores, classes)

    torch._dynamo.reset()
    for got, expected in zip(torch.compile(detect, fullgraph=True)(*inputs), detect(*inputs), strict=True):
        torch.testing.assert_close(got, expected)


def test_an_operation_without_a_gpu_kernel_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"box_area: no backend runs torch\.float32 on cuda"):
        visionops.box_area(torch.zeros(1, 4, device="cuda"))


def pooled(image: Tensor) -> tuple[Tensor, ...]:
    """Every pooling and its gradient."""
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    maxima, offsets = visionops.max_pool2d_with_offsets(image, **window)
    _, indices = visionops.max_pool2d(image, **window, return_indices=True)
    averages = visionops.avg_pool2d(image, **window)
    return (
        maxima,
        offsets,
        indices,
        averages,
        visionops.max_pool2d_backward(maxima, offsets, image.shape, **window),
        visionops.avg_pool2d_backward(averages, image.shape, **window),
        visionops.max_unpool2d(maxima, indices, **window, output_size=image.shape[2:]),
        visionops.adaptive_avg_pool2d(image, (4, 3)),
        *visionops.adaptive_max_pool2d(image, (4, 3), return_indices=True),
        visionops.spatial_pyramid_pool(image),
    )


def images(layout: torch.memory_format, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 24, 37, 41, generator=generator).contiguous(memory_format=layout)


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


@LAYOUTS
def test_poolings_on_another_stream(layout: torch.memory_format) -> None:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there = pooled(images(layout).cuda())
    stream.synchronize()
    here = pooled(images(layout))
    assert same(there, here)
    assert [t.stride() for t in there] == [t.stride() for t in here]


@pytest.mark.usefixtures("no_waits")
@LAYOUTS
def test_poolings_do_not_wait(layout: torch.memory_format) -> None:
    pooled(torch.empty(2, 24, 37, 41, device="cuda").contiguous(memory_format=layout))


@LAYOUTS
def test_graphs_of_poolings_replay_with_other_inputs(layout: torch.memory_format) -> None:
    static = images(layout).cuda()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        pooled(static)  # what is loaded on first use is loaded
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = pooled(static)
    for seed in (1, 2):
        static.copy_(images(layout, seed))
        graph.replay()
        torch.cuda.synchronize()
        assert same(results, pooled(images(layout, seed)))


@LAYOUTS
@pytest.mark.parametrize("pooling", [visionops.max_pool2d, visionops.avg_pool2d])
def test_gradients_of_poolings_are_those_on_the_cpu(layout: torch.memory_format, pooling: Any) -> None:
    found = []
    for device in ("cuda", "cpu"):
        x = images(layout).to(device).requires_grad_()
        y = pooling(x, 3, 2, 1)
        found.append((y.detach(), torch.autograd.grad((y**2).sum(), x)[0]))
    assert same(*found)
