"""Gradients of roi_align and roi_pool: both layouts, any thread count, what is not finite, twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drawn_rois import CALLS, boxes_on, drawn, gradient, last
from visionops import roi_align
from visionops.roi import cases
from visionops.roi.roi_align import ROI_ALIGN, ROI_ALIGN_BACKWARD


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


@pytest.mark.parametrize("layout", [lambda t: t, last])
def test_of_several_nans_the_first_is_the_greatest(layout: Any) -> None:
    image = layout(torch.tensor([[[[torch.nan, 0, 0, torch.nan]]]]).expand(1, 2, 1, 4))
    found = gradient(
        lambda x, boxes: roi_align(x, boxes, 1, 1.0, 4, True, mode="max"),
        image,
        torch.tensor([[0.0, 0, 0, 4, 1]]),
        torch.ones(1, 2, 1, 1),
    )
    assert found[0].flatten(1).tolist() == [[1, 0, 0, 0]] * 2


def test_expanded_gradients_are_not_copied_wrongly() -> None:
    image, boxes = drawn(2, 5, 9, 13), boxes_on(2, 18, 26)
    for call in CALLS.values():
        shape = call(image, boxes).shape
        one = torch.ones((), dtype=torch.float64)
        expected = gradient(call, image, boxes, torch.ones(shape, dtype=torch.float64))
        assert torch.equal(gradient(call, image, boxes, one.expand(shape)), expected)


def test_differentiable_twice() -> None:
    image, boxes = drawn(2, 3, 6, 7).requires_grad_(), boxes_on(2, 12, 14)
    grad = drawn(9, 3, 2, 2).requires_grad_()
    arguments = (boxes, 2, 6, 7, 0.5, 2, True, False, False)
    assert torch.autograd.gradcheck(lambda g: ROI_ALIGN_BACKWARD(g, *arguments), grad)
    assert torch.autograd.gradgradcheck(lambda x: ROI_ALIGN(x, boxes, 2, 2, 0.5, 2, True), image)
