"""On a real GPU: no host waits in padded forms, graphs replay with other inputs, streams are torch's."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock
from typing import Any

import pytest
import torch
from torch import Tensor

import visionops
from visionops import (
    batched_nms,
    box_iou,
    col2im,
    conv2d,
    conv_transpose2d,
    depthwise_separable_conv2d,
    fast_nms,
    im2col,
    matrix_nms,
    nms,
    soft_nms,
)
from visionops import batched_nms, box_iou, fast_nms, fused_batch_norm, matrix_nms, nms, soft_nms
from visionops._op import TRITON
from visionops.norm.fused_batch_norm import FUSED_BATCH_NORM
    fast_nms,
    matrix_nms,
    multiscale_roi_align,
    nms,
    roi_align,
    roi_pool,
    soft_nms,
)
from visionops.suppression.nms import NMS

WHY_NOT = NMS.backends[0].why_not(NMS, "cuda", torch.float32) if torch.cuda.is_available() else "there is no GPU"
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
SIZES = (0, 1, 257, 1100, 5000)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


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


def regions(seed: int = 0, layout: torch.memory_format = torch.contiguous_format) -> tuple[Tensor, ...]:
    """Two maps, boxes across and beyond them, and the gradient of what is pooled."""
    generator = torch.Generator().manual_seed(seed)
    fine, coarse = (torch.randn(2, 20, size, size + 10, generator=generator) for size in (60, 30))
    corners = torch.rand(150, 2, generator=generator) * 260 - 20
    sides = torch.rand(150, 2, generator=generator) ** 2 * 200
    image = torch.randint(-1, 3, (150, 1), generator=generator)  # some of no image
    boxes = torch.cat([image, corners, corners + sides], 1)
    boxes[3, 2] = torch.nan
    grad = torch.randn(4, 150, 20, 7, 7, generator=generator)
    return fine.contiguous(memory_format=layout), coarse.contiguous(memory_format=layout), boxes, grad


def pooled(fine: Tensor, coarse: Tensor, boxes: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """All operations on regions and their gradients."""
    fine, coarse = fine.detach().requires_grad_(), coarse.detach().requires_grad_()
    results = (
        roi_align(fine, boxes, 7, 1 / 4, 0, True),
        roi_align(fine, boxes, 7, 1 / 4, 2, mode="max"),
        roi_pool(fine, boxes, 7, 1 / 4),
        multiscale_roi_align([fine, coarse], boxes, 7, [1 / 4, 1 / 8], canonical_size=100, canonical_level=3),
    )
    return *(r.detach() for r in results), *torch.autograd.grad(results, (fine, coarse), tuple(grad))


def on_the_cpu(fine: Tensor, coarse: Tensor, boxes: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The same, where a RoI without an image is an error: there it is one with a NaN."""
    boxes = boxes.clone()
    boxes[(boxes[:, 0] < 0) | (boxes[:, 0] >= len(fine))] = torch.nan
    return pooled(fine, coarse, boxes, grad)


def close(there: tuple[Tensor, ...], here: tuple[Tensor, ...]) -> None:
    for got, expected in zip(there, here, strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-4)
        assert got.stride() == expected.stride()


def gathered(asked: bool) -> mock._patch[mock.MagicMock]:
    return mock.patch.object(torch, "are_deterministic_algorithms_enabled", return_value=asked)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_regions_and_their_gradients(layout: torch.memory_format, deterministic: bool) -> None:
    inputs = regions(layout=layout)
    with gathered(deterministic):
        runs = [pooled(*(t.cuda() for t in inputs)) for _ in range(3)]
    close(runs[0], on_the_cpu(*inputs))
    if deterministic:
        assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_maps_of_regions(dtype: torch.dtype) -> None:
    fine, coarse, boxes, grad = regions()
    narrow = fine.to(dtype), coarse.to(dtype), boxes, grad.to(dtype)
    tolerance = 2e-2 if dtype == torch.float16 else 1e-1
    for got, expected in zip(pooled(*(t.cuda() for t in narrow)), on_the_cpu(*narrow), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("no_waits")
def test_regions_do_not_wait() -> None:
    inputs = [torch.empty_like(t, device="cuda") for t in regions()]
    for deterministic in (False, True):
        with gathered(deterministic):
            pooled(*inputs)


@pytest.mark.parametrize("deterministic", [False, True])
def test_graphs_replay_with_other_regions(deterministic: bool) -> None:
    static = [t.cuda() for t in regions()]
    side = torch.cuda.Stream()
    with gathered(deterministic):
        with torch.cuda.stream(side):
            pooled(*static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = pooled(*static)
    for seed in (1, 2):
        inputs = regions(seed)
        for place, value in zip(static, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        close(results, on_the_cpu(*inputs))


def test_regions_on_another_stream() -> None:
    inputs = regions()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there = pooled(*(t.cuda() for t in inputs))
    stream.synchronize()
    close(there, on_the_cpu(*inputs))


def test_everything_compiles_by_inductor() -> None:
    inputs = [t.cuda() for t in candidates(300)]

    def detect(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
        keep = batched_nms(boxes[0], scores[0], classes[0], 0.5)
        return box_iou(boxes[0][keep] * 2, boxes[1], mode="giou"), *padded(boxes, scores, classes)

    torch._dynamo.reset()
    for got, expected in zip(torch.compile(detect, fullgraph=True)(*inputs), detect(*inputs), strict=True):
        torch.testing.assert_close(got, expected)


def block(dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """An image, channels last, and the weights and shifts of a depthwise-separable block over it."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 70, 15, 13), (70, 1, 3, 3), (70,), (150, 70, 1, 1), (150,))
    image, *rest = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    rest[2] = rest[2] / 70**0.5
    return [image.to(memory_format=torch.channels_last), *rest]


def separable(x: Tensor, first: Tensor, shift: Tensor, second: Tensor, bias: Tensor) -> Tensor:
    norms = {"depthwise_norm": (None, shift), "pointwise_norm": (None, bias)}
    return depthwise_separable_conv2d(x, first, second, stride=2, padding=1, depthwise_activation="relu6", **norms)


def close(there: Tensor, here: Tensor) -> None:
    error = 1e-4 if here.dtype == torch.float32 else 5e-2
    torch.testing.assert_close(there.cpu(), here, rtol=error, atol=error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_separable_block_replays_with_other_inputs(dtype: torch.dtype) -> None:
    static = [t.cuda() for t in block(dtype)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        there = separable(*static)  # compiles
    stream.synchronize()
    assert there.is_contiguous(memory_format=torch.channels_last)
    close(there, separable(*block(dtype)))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = separable(*static)
    for seed in (1, 2):
        inputs = block(dtype, seed)
        for place, value in zip(static, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        close(result, separable(*inputs))


def test_a_separable_block_learns() -> None:
    inputs = block(torch.float32)
    grads = []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in inputs]
        grads.append(torch.autograd.grad(separable(*leaves).square().mean(), leaves))
    for here, there in zip(*grads, strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)


def test_an_operation_without_a_gpu_kernel_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"box_area: no backend runs torch\.float32 on cuda"):
        visionops.box_area(torch.zeros(1, 4, device="cuda"))


def images(seed: int = 0) -> list[Tensor]:
    """An image, filters and columns, as `convolved` takes them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, 6, 19, 33), (40, 6, 3, 3), (2, 54, 19 * 33)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def convolved(image: Tensor, filters: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """Columns in CUDA C++, convolution in Triton and by cuDNN; on the CPU by what stands for them there."""
    backends = ("triton", "aten") if image.is_cuda else ("native", "native")
    return (
        im2col(image, 3, padding=1),
        col2im(columns, image.shape[2:], 3, padding=1),
        *(conv2d(image, filters, padding=1, activation="relu", backend=backend) for backend in backends),
        *(conv_transpose2d(image, filters.transpose(0, 1), stride=2, backend=backend) for backend in backends),
    )


def near(there: tuple[Tensor, ...], here: tuple[Tensor, ...]) -> bool:
    return all(torch.allclose(a.cpu(), b, 1e-12, 1e-12) for a, b in zip(there, here, strict=True))


def test_convolutions_on_another_stream_do_not_wait() -> None:
    stream = torch.cuda.Stream()
    there = [t.cuda() for t in images()]
    convolved(*there)  # what is compiled and chosen on first use is
    stream.wait_stream(torch.cuda.current_stream())
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.stream(stream):
            results = convolved(*there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream.synchronize()
    assert near(results, convolved(*images()))


def test_graphs_of_convolutions_replay_with_other_inputs() -> None:
    static = [t.cuda() for t in images()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        convolved(*static)  # what is compiled and chosen on first use is
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = convolved(*static)
    for seed in (1, 2):
        for place, value in zip(static, images(seed), strict=True):
            place.copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        assert near(results, convolved(*images(seed)))
NORM_WHY_NOT = TRITON.why_not(FUSED_BATCH_NORM, "cuda", torch.float32) if torch.cuda.is_available() else WHY_NOT
norms = pytest.mark.skipif(NORM_WHY_NOT is not None, reason=str(NORM_WHY_NOT))


def image_and_channels(layout: torch.memory_format, seed: int = 0) -> list[Tensor]:
    """Input, residual, gradient, weight, bias and running estimates."""
    generator = torch.Generator().manual_seed(seed)
    images = (torch.randn(5, 70, 9, 11, generator=generator).contiguous(memory_format=layout) for _ in range(3))
    return [
        *images,
        torch.rand(70, generator=generator) + 0.5,
        torch.randn(70, generator=generator),
        torch.zeros(70),
        torch.ones(70),
    ]


def normalised(x: Tensor, residual: Tensor, grad: Tensor, *channels: Tensor) -> tuple[Tensor, ...]:
    """The output, the moved estimates and all gradients of a training call."""
    leaves = [tensor.detach().requires_grad_() for tensor in (x, residual, *channels[:2])]
    options = {"residual": leaves[1], "activation": "relu"}
    out = fused_batch_norm(leaves[0], *leaves[2:], *channels[2:], True, **options)  # type: ignore[arg-type]
    return out.detach(), *channels[2:], *torch.autograd.grad(out, leaves, grad)


def alike(there: tuple[Tensor, ...], here: tuple[Tensor, ...]) -> None:
    for got, expected in zip(there, here, strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-4)


@norms
@pytest.mark.parametrize("layout", LAYOUTS)
def test_norms_on_another_stream(layout: torch.memory_format) -> None:
    inputs, stream = image_and_channels(layout), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there = normalised(*(t.cuda() for t in inputs))
    stream.synchronize()
    alike(there, normalised(*inputs))


@norms
@pytest.mark.parametrize("layout", LAYOUTS)
def test_norms_do_not_wait(layout: torch.memory_format) -> None:
    there = [t.cuda() for t in image_and_channels(layout)]
    normalised(*there)  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        normalised(*there)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@norms
@pytest.mark.parametrize("layout", LAYOUTS)
def test_graphs_of_norms_replay_with_other_inputs(layout: torch.memory_format) -> None:
    static = [t.cuda() for t in image_and_channels(layout)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        normalised(*static)  # what is compiled on first use is compiled
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = normalised(*static)
    for seed in (1, 2):
        inputs = image_and_channels(layout, seed)
        for place, value in zip(static, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        alike(results, normalised(*inputs))
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
