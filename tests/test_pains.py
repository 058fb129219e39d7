"""What users of other libraries suffer and not of this one: a numbered test each, which fails if its mend is undone."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import torch

import visionops
from fresh import printed
from visionops import (
    batched_nms,
    box_iou,
    fused_batch_norm,
    max_pool2d_backward,
    max_pool2d_with_offsets,
    nms,
    roi_align,
    roi_pool,
)
from visionops.nn import FrozenBatchNorm2d
from visionops.pool.max_pool2d import MAX_POOL2D_BACKWARD
from visionops.roi.roi_pool import ROI_POOL

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
FLOATING = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
TWICE = torch.tensor([[-100.0, -100, -10, -10], [-100, -100, -10, -10]])
SCORES = torch.tensor([0.9, 0.8])


def test_row_3_negative_coordinates_keep_classes_apart() -> None:
    assert batched_nms(TWICE, SCORES, torch.tensor([0, 1]), 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", FLOATING)
def test_row_4_large_ids_narrow_dtypes_and_infinity_keep_classes_apart(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9]], dtype=dtype)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6], dtype=dtype)
    for first in (20_000, 2**24, 2**53, 2**62, -(2**62)):
        ids = torch.tensor([first, first + 1, first, first + 1])
        assert batched_nms(boxes, scores, ids, 0.5).tolist() == [0, 1]
    boxes[3, 2] = torch.inf
    assert batched_nms(boxes, scores, torch.zeros(4, dtype=torch.int64), 0.5).tolist() == [0, 3]


def test_row_5_many_classes_are_one_call() -> None:
    boxes, scores = torch.rand(20_000, 4) * 100, torch.rand(20_000)
    boxes[:, 2:] += boxes[:, :2]
    one = torch.zeros(20_000, dtype=torch.int64)
    times = []
    for ids in (one, torch.arange(20_000)):
        batched_nms(boxes, scores, ids, 0.5)
        start = time.perf_counter()
        batched_nms(boxes, scores, ids, 0.5)
        times.append(time.perf_counter() - start)
    # A loop in Python over 20,000 classes takes half a second.
    assert times[1] < 0.1


@pytest.mark.parametrize("dtype", [*FLOATING, torch.uint8, torch.int32])
def test_row_6_one_rule_at_the_threshold(dtype: torch.dtype) -> None:
    # IoU is exactly 1/5: kept at fl(0.2) of the dtype computed in, suppressed at the next number below.
    boxes = torch.tensor([[0, 0, 3, 1], [2, 0, 5, 1]], dtype=dtype)
    assert nms(boxes, SCORES, 0.2).tolist() == [0, 1]
    wide = dtype in (torch.float64, torch.int32)
    threshold = torch.tensor(0.2, dtype=torch.float64 if wide else torch.float32)
    below = torch.nextafter(threshold, torch.zeros_like(threshold)).item()
    assert nms(boxes, SCORES, below).tolist() == [0]
    # Next to 1/3 the dtype shows: a threshold a trifle below it is 1/3 itself in float32.
    third = torch.tensor([[0, 0, 2, 1], [1, 0, 3, 1]], dtype=dtype)
    assert nms(third, SCORES, 1 / 3 - 1e-12).tolist() == ([0] if wide else [0, 1])


def test_row_7_image_batch_max_output_score_threshold_and_static_shapes() -> None:
    overlapping, apart = [[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 29, 9]], [[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]
    boxes = torch.tensor([overlapping, apart])
    scores = torch.tensor([[0.9, 0.8, 0.7], [0.1, 0.8, 0.9]])
    indices, counts = nms(boxes, scores, 0.5, score_threshold=0.1, max_output=4, padded=True)
    assert indices.tolist() == [[0, 2, -1, -1], [2, 1, -1, -1]]
    assert counts.tolist() == [2, 2]
    assert nms(boxes[1], scores[1], 0.5, max_output=1).tolist() == [2]


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 1001, 100_000])
def test_row_8_compiles_at_any_size(n: int) -> None:
    def detect(boxes: torch.Tensor, scores: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        keep = nms(boxes, scores, 0.5, score_threshold=0.5)
        by_class = batched_nms(boxes, scores, ids, 0.5)
        return keep, by_class, box_iou(boxes[keep][:3], boxes[by_class][:3])

    generator = torch.Generator().manual_seed(0)
    boxes, scores = torch.rand(n, 4, generator=generator) * 1000, torch.rand(n, generator=generator)
    boxes[:, 2:] = boxes[:, :2] + 9
    ids = torch.randint(1000, (n,), generator=generator)
    torch._dynamo.reset()
    compiled = torch.compile(detect, fullgraph=True, backend="aot_eager")
    for few in (scores, torch.zeros(n)):  # as many survivors as there are, then none of the first
        for actual, expected in zip(compiled(boxes, few, ids), detect(boxes, few, ids), strict=True):
            assert torch.equal(actual, expected)


@pytest.mark.measured
def test_row_10_threads_work() -> None:
    # The share of processor time that the calling thread did not spend: 0 on one thread, 1/2 on two, whoever else runs.
    code = (
        "import time\n"
        "torch.set_num_threads(2); b = torch.rand(6000, 4); vo.box_iou(b, b)\n"
        "own, all = time.thread_time(), time.process_time()\n"
        "for _ in range(8): vo.box_iou(b, b, mode='ciou')\n"
        "print(1 - (time.thread_time() - own) / (time.process_time() - all))"
    )
    assert float(printed(code)) > 0.3


@pytest.mark.measured
def test_row_15_box_iou_needs_its_result_alone() -> None:
    code = (
        "b = torch.rand(5000, 4); vo.box_iou(b[:64], b[:64]); before = peak()\n"
        "for mode in ('iou', 'ciou'): out = vo.box_iou(b, b, mode=mode); del out\n"
        "print(peak() - before)"
    )
    result = 5000 * 5000 * 4 / 2**20
    assert float(printed(code)) < result + 10


def test_row_16_degenerate_and_narrow_boxes() -> None:
    empty = torch.tensor([[5.0, 5, 5, 5]])
    assert box_iou(empty, empty).item() == 0
    apart = torch.tensor([[0, 0, 10, 10], [200, 200, 250, 250]], dtype=torch.uint8)
    assert box_iou(apart[:1], apart[1:]).item() == 0
    wide = torch.tensor([[0, 0, 50_000, 50_000]], dtype=torch.int32)
    assert visionops.box_area(wide).item() == 50_000.0**2
    assert box_iou(wide, wide).item() == 1
    half = torch.tensor([[-25_000.0, -25_000, 25_000, 25_000]], dtype=torch.float16)
    for mode in ("iou", "giou", "diou", "ciou", "iof"):
        assert box_iou(half, half, mode=mode).item() == 1


@pytest.mark.parametrize("device", DEVICES)
def test_row_18_soft_nms_of_a_batch_on_the_device_of_its_boxes(device: str) -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 3]], [[0, 0, 4, 4], [8, 8, 9, 9]]], device=device)
    scores = torch.tensor([[0.5, 1.0], [0.5, 0.25]], device=device)
    ids = torch.zeros(2, 2, dtype=torch.int64, device=device)
    indices, decayed, counts = visionops.soft_nms(boxes, scores, ids, max_output=2, padded=True)
    assert indices.device.type == device
    assert indices.tolist() == [[1, 0], [0, 1]]
    assert decayed.tolist() == [[1.0, 0.125], [0.5, 0.25]]
    assert counts.tolist() == [2, 2]


def test_row_23_a_frozen_norm_is_one_operation_that_saves_a_bit_an_element() -> None:
    x, residual = (torch.randn(2, 8, 14, 14, requires_grad=True) for _ in range(2))
    norm, saved = FrozenBatchNorm2d(8, activation="relu"), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        out = norm(x, residual=residual)
    # Two broadcasts, an addition and a relu would be a chain of as many, each with a result as large as x.
    assert out.grad_fn is not None
    inputs = {getattr(function, "variable", None) for function, _ in out.grad_fn.next_functions}
    assert inputs == {x, residual, None}
    assert sum(saved) < x.nbytes / 16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_row_24_eval_of_70000_images(layout: torch.memory_format) -> None:
    x = torch.randn(70_000, 3, 2, 2, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    mean, var = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([0.5, 1.0, 2.0])
    out = fused_batch_norm(x, None, None, mean, var)
    expected = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(out, expected)


def test_row_24_the_gradient_of_pooling_is_the_same_bits_in_every_run() -> None:
    # Sums of up to nine gradients: in another order many of them would be rounded otherwise.
    generator = torch.Generator().manual_seed(0)
    _, offsets = max_pool2d_with_offsets(torch.randn(2, 8, 30, 30, generator=generator), 3, 1, 1)
    grad = torch.randn(offsets.shape, generator=generator)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    expected = max_pool2d_backward(grad, offsets, grad.shape, 3, 1, 1)
    for backend in MAX_POOL2D_BACKWARD.backends:
        where = "cpu" if backend.name == "emulated" else device
        for seed in range(3):
            if backend.name == "emulated":
                torch.ops.visionops.emulation_seed(seed)  # of the order in which threads and blocks run
            got = max_pool2d_backward(grad.to(where), offsets.to(where), grad.shape, 3, 1, 1, backend=backend.name)
            assert torch.equal(got.cpu(), expected)


MAP = torch.arange(1, 37.0).view(1, 1, 6, 6)
ROI = torch.tensor([[0.0, 1, 1, 4, 4]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_row_9_narrow_maps_are_pooled_natively(dtype: torch.dtype) -> None:
    # Coordinates that bfloat16 does not hold stay beside the map in float32.
    wide = torch.zeros(1, 1, 4, 1400, dtype=dtype)
    wide[..., 1333:] = 1
    beside = torch.tensor([[0.0, 1333, 0, 1335, 3]])
    with torch.autocast("cpu", dtype):
        assert roi_align(wide, beside, 1, sampling_ratio=1).item() == 1
        assert roi_align(wide, [beside[:, 1:]], 1, aligned=True).dtype == dtype
    assert roi_pool(MAP.to(dtype), ROI, 2).dtype == dtype


@pytest.mark.measured
def test_row_9_no_copy_of_a_narrow_map() -> None:
    code = (
        "x = torch.zeros(1, 16, 1500, 1500, dtype=torch.bfloat16); b = torch.tensor([[0, 1., 1, 99, 99]])\n"
        "vo.roi_align(x[:, :1, :9, :9], b, 7); before = peak()\n"
        "with torch.autocast('cpu', torch.bfloat16): vo.roi_align(x, b, 7); vo.roi_pool(x, b, 7)\n"
        "print(peak() - before)"
    )
    assert float(printed(code)) < 16


@pytest.mark.measured
def test_row_10_few_large_regions_use_all_threads() -> None:
    code = (
        "import time\n"
        "torch.set_num_threads(2); x = torch.rand(1, 256, 200, 250)\n"
        "b = torch.tensor([[0, 0., 0, 1000, 800], [0, 5, 5, 990, 800], [0, 9, 1, 999, 700]])\n"
        "vo.roi_align(x, b, 7, .25)\n"
        "own, all = time.thread_time(), time.process_time()\n"
        "for _ in range(20): vo.roi_align(x, b, 7, .25)\n"
        "print(1 - (time.thread_time() - own) / (time.process_time() - all))"
    )
    assert float(printed(code)) > 0.3


def test_row_11_wild_regions_are_zeros_or_an_error() -> None:
    wild = [torch.nan, torch.inf, -torch.inf]
    rows = torch.stack([ROI[0].index_fill(0, torch.tensor(i), value) for i in range(5) for value in wild])
    for operation in (roi_align, roi_pool):
        leaf = MAP.clone().requires_grad_()
        result = operation(leaf, rows, 2)
        assert (result == 0).all()
        result.sum().backward()
        assert leaf.grad is not None
        assert (leaf.grad == 0).all()
        for index in (1.0, 999_999.0, -1.0, -100_000.0):
            with pytest.raises(ValueError, match="expected the index of an image"):
                operation(MAP, torch.tensor([[index, 1, 1, 4, 4]]), 2)
    # Adaptive sampling of 14,286 x 14,286 samples a bin, and more than can be counted.
    for side in (1e5, 1e12, 3e38):
        assert roi_align(MAP, torch.tensor([[0.0, 0, 0, side, side]]), 7).isfinite().all()
    inverted = torch.tensor([[0.0, 1, 4, 4, 1]])
    assert (roi_align(MAP, inverted, 2, aligned=True) == 0).all()


def test_row_12_narrow_maps_are_summed_in_float32() -> None:
    fifty = torch.full((1, 1, 70, 70), 50.0, dtype=torch.float16)
    assert roi_align(fifty, torch.tensor([[0.0, 2, 2, 66, 66]]), 1).item() == 50
    leaf = torch.zeros(1, 1, 1, 1, dtype=torch.float16, requires_grad=True)
    # 4096 + 1 is 4096 in float16: added one by one, the gradient would stop there.
    roi_align(leaf, torch.tensor([[0.0, 0, 0, 1, 1]]).repeat(5000, 1), 1).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.item() == 5000


@pytest.mark.parametrize("dtype", FLOATING)
def test_row_13_nan_propagates_and_minus_infinity_stays(dtype: torch.dtype) -> None:
    image = torch.full((1, 3, 4, 4), -torch.inf, dtype=dtype)
    image[0, 1, 2, 2] = torch.nan
    image[0, 2] = -60_000.0
    for layout in (image, image.contiguous(memory_format=torch.channels_last)):
        result = roi_pool(layout, torch.tensor([[0.0, 0, 0, 3, 3]]), 1).flatten()
        assert result[0] == -torch.inf
        assert result[1].isnan()
        assert result[2] == image[0, 2, 0, 0]


@pytest.mark.parametrize("operation", [partial(roi_align, mode="avg"), partial(roi_align, mode="max"), roi_pool])
def test_row_14_the_gradient_is_the_same_in_every_run(operation: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 16, 40, 40, generator=generator)
    rows = torch.rand(60, 5, generator=generator) * 30
    rows[:, 0], rows[:, 3:] = 0, rows[:, 1:3] + rows[:, 3:]
    grad = torch.randn(60, 16, 7, 7, generator=generator)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for backend in ROI_POOL.backends:
        there = "cpu" if backend.name == "emulated" else device
        leaf, results = image.to(there).requires_grad_(), []
        pooled = operation(leaf, rows.to(there), 7, backend=backend.name)
        for seed in range(3):
            if backend.name == "emulated":
                torch.ops.visionops.emulation_seed(seed)  # of the order in which threads and blocks run
            torch.use_deterministic_algorithms(True)
            results += torch.autograd.grad(pooled, leaf, grad.to(there), retain_graph=True)
        assert all(torch.equal(results[0], other) for other in results)


def test_row_22_scales_are_each_call_s_own() -> None:
    module = visionops.nn.MultiScaleRoIAlign(["fine", "coarse"], 1, 2)
    maps = {"fine": torch.rand(1, 1, 64, 64), "coarse": torch.rand(1, 1, 32, 32)}
    boxes = [torch.tensor([[0.0, 0, 200, 200], [8, 8, 30, 30]])]
    first, second = module(maps, boxes, [(256, 256)]), module(maps, boxes, [(512, 512)])
    fresh = visionops.nn.MultiScaleRoIAlign(["fine", "coarse"], 1, 2)(maps, boxes, [(512, 512)])
    assert torch.equal(second, fresh)
    assert not torch.equal(first, second)
    # One operation for all levels, and nothing that depends on values: it can be traced as one graph.
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(maps, boxes, [(256, 256)]), first)
