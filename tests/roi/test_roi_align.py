"""What only roi_align does: both layouts, lists of boxes, gradients, messages, threads, memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import visionops
from contract import DTYPES, to_numpy
from visionops import nms, roi_align, roi_pool
from visionops.roi import cases, reference
from visionops.roi.roi_align import ROI_ALIGN, ROI_ALIGN_BACKWARD
from visionops.testing import Case, compare

OPERATIONS = {"roi_align": (roi_align, reference.roi_align), "roi_pool": (roi_pool, reference.roi_pool)}
ALL_CASES = [
    pytest.param(name, case, id=f"{name}-{case.name}") for name in OPERATIONS for case in getattr(cases, name)()
]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def boxes_on(batch: int, height: int, width: int, count: int = 9, seed: int = 0) -> Tensor:
    return torch.from_numpy(cases.random_rois(np.random.default_rng(seed), count, batch, height, width))


def last(image: Tensor) -> Tensor:
    return image.to(memory_format=torch.channels_last)


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


CALLS: dict[str, Any] = {
    "avg": lambda x, b: roi_align(x, b, (3, 2), 0.5, 2, True),
    "avg-adaptive": lambda x, b: roi_align(x, b, 7, 0.5),
    "max": lambda x, b: roi_align(x, b, (3, 2), 0.5, 2, True, mode="max"),
    "max-adaptive": lambda x, b: roi_align(x, b, 7, 0.5, mode="max"),
    "pool": lambda x, b: roi_pool(x, b, (3, 2), 0.5),
    "pool-many": lambda x, b: roi_pool(x, b, 7, 0.5),
}


def gradient(call: Any, image: Tensor, boxes: Tensor, grad: Tensor) -> Tensor:
    image = image.detach().requires_grad_()
    call(image, boxes).backward(grad)
    assert image.grad is not None
    return image.grad


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("channels", [1, 3, 20, 70])
@pytest.mark.parametrize("size", [(9, 13), (5, 16), (40, 35), (200, 3)])
def test_gradients_in_both_layouts(name: str, channels: int, size: tuple[int, int]) -> None:
    call, image = CALLS[name], drawn(2, channels, *size)
    boxes = torch.cat([boxes_on(2, 2 * size[0], 2 * size[1]), torch.from_numpy(cases.ACROSS)])
    boxes = torch.cat([boxes, torch.from_numpy(cases.WILD), torch.from_numpy(cases.INVERTED)])
    grad = drawn(*call(image, boxes).shape, seed=1)
    first = gradient(call, image, boxes, grad)
    # Linear in the map as long as its order stays: the same as the derivative along it.
    assert torch.allclose((first * image).sum(), (call(image, boxes) * grad).sum(), rtol=1e-9)
    direction = drawn(2, channels, *size, seed=2) * 1e-6
    along = (call(image + direction, boxes) - call(image - direction, boxes)) / 2
    assert torch.allclose((first * direction).sum(), (along * grad).sum(), rtol=1e-5)
    for other, other_grad in ((last(image), last(grad)), (last(image), grad), (image, last(grad))):
        torch.testing.assert_close(gradient(call, other, boxes, other_grad), first, rtol=1e-12, atol=1e-12)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        narrow, narrow_grad = image.to(dtype), grad.to(dtype)
        wide = gradient(call, narrow.double(), boxes, narrow_grad.double())
        tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
        for map_, of_map in ((narrow, narrow_grad), (last(narrow), last(narrow_grad))):
            got = gradient(call, map_, boxes, of_map)
            assert got.dtype == dtype
            if name != "max" and not name.startswith("max"):  # of two samples a rounding apart either may be greater
                torch.testing.assert_close(got.double(), wide, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("layout", ["first", "last"])
def test_results_and_gradients_do_not_depend_on_threads_or_the_run(name: str, layout: str) -> None:
    image = drawn(2, 24, 60, 50, dtype=torch.float32)
    image = last(image) if layout == "last" else image
    boxes = boxes_on(2, 120, 100, 60)
    grad = drawn(*CALLS[name](image, boxes).shape, dtype=torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4, 4):
            torch.set_num_threads(count)
            results.append((CALLS[name](image, boxes), gradient(CALLS[name], image, boxes, grad)))
    finally:
        torch.set_num_threads(threads)
    for result, of_image in results[1:]:
        assert torch.equal(result, results[0][0])
        assert torch.equal(of_image, results[0][1])


@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_that_is_not_finite_stays_where_it_belongs(name: str) -> None:
    image, boxes = drawn(1, 2, 12, 40), torch.tensor([[0.0, 4, 4, 30, 12], [0, 20, 2, 70, 20]])
    grad = torch.ones_like(CALLS[name](image, boxes))
    grad[0, 0, 0, 0] = torch.nan
    grad[1, 1, 1, 1] = torch.inf
    ones = torch.ones_like(grad)
    for layout in (lambda t: t, last):
        found = gradient(CALLS[name], layout(image), boxes, layout(grad))
        plain = gradient(CALLS[name], layout(image), boxes, layout(ones))
        touched = gradient(CALLS[name], layout(image), boxes, layout((grad != 1).double()))
        assert torch.equal(~found.isfinite(), touched != 0)
        assert torch.equal(found[touched == 0], plain[touched == 0])


def test_expanded_gradients_are_not_copied_wrongly() -> None:
    image, boxes = drawn(2, 5, 9, 13), boxes_on(2, 18, 26)
    for call in CALLS.values():
        shape = call(image, boxes).shape
        one = torch.ones((), dtype=torch.float64)
        expected = gradient(call, image, boxes, torch.ones(shape, dtype=torch.float64))
        assert torch.equal(gradient(call, image, boxes, one.expand(shape)), expected)


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
        lambda: ops.roi_pool_backward_native(image, image, boxes[:1], image[:, :2], 1.0, False),
        lambda: ops.roi_pool_backward_native(image, image, boxes[:1], image.half(), 1.0, False),
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


@pytest.mark.measured
@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
def test_needs_its_result_and_gradient_alone(layout: str) -> None:
    code = (
        "import re, torch, visionops as vo\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1)) / 1024\n"
        f"x = torch.randn(1, 256, 200, 272).contiguous(memory_format=torch.{layout}).requires_grad_()\n"
        "b = torch.rand(512, 5) * 400; b[:, 0] = 0; b[:, 3:] += b[:, 1:3]\n"
        f"g = torch.randn(512, 256, 7, 7).contiguous(memory_format=torch.{layout})\n"
        "small = torch.randn(1, 2, 8, 8, requires_grad=True)\n"
        # Given a gradient, torch imports a module the first time.
        "vo.roi_align(small, b[:2], 7, .01).backward(g[:2, :2]); before = peak()\n"
        "vo.roi_align(x, b, 7, .25, 0).backward(g); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    needed = (512 * 256 * 49 + 256 * 200 * 272) * 4 / 2**20
    assert float(run.stdout) < 1.1 * needed


@pytest.mark.large
@pytest.mark.parametrize("size", [(1, 46_400, 46_400), (2, 46_400, 23_200)])
def test_a_map_above_two_to_the_31_elements(size: tuple[int, int, int]) -> None:
    # 4.3 GB of float16, all 0 but for a corner that only 64-bit offsets reach.
    channels, height, width = size
    layout = torch.contiguous_format if channels == 1 else torch.channels_last
    image = torch.zeros(1, *size, dtype=torch.float16).contiguous(memory_format=layout)
    image[..., height - 9 :, width - 9 :] = 3
    boxes = torch.tensor([[0.0, width - 8, height - 8, width - 2, height - 2], [0, 0, 0, 8, 8]])
    image.requires_grad_()
    for call in (
        lambda x, b: roi_align(x, b, 2),
        lambda x, b: roi_align(x, b, 2, mode="max"),
        lambda x, b: roi_pool(x, b, 2),
    ):
        result = call(image, boxes)
        assert (result[0] == 3).all()
        assert (result[1] == 0).all()
        (grad,) = torch.autograd.grad(result.sum(), image)
        corner = grad[..., height - 9 :, width - 9 :].double().sum().item()
        assert corner == pytest.approx(4 * channels, rel=0.01)
        del grad


def test_differentiable_twice() -> None:
    image, boxes = drawn(2, 3, 6, 7).requires_grad_(), boxes_on(2, 12, 14)
    grad = drawn(9, 3, 2, 2).requires_grad_()
    arguments = (boxes, 2, 6, 7, 0.5, 2, True, False, False)
    assert torch.autograd.gradcheck(lambda g: ROI_ALIGN_BACKWARD(g, *arguments), grad)
    assert torch.autograd.gradgradcheck(lambda x: ROI_ALIGN(x, boxes, 2, 2, 0.5, 2, True), image)
