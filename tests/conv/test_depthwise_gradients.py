"""Gradients of depthwise and pointwise convolutions in the native kernels: torch's own, in both layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visionops import depthwise_conv2d, pointwise_conv2d

LAYOUTS = (torch.contiguous_format, torch.channels_last)
WINDOWS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def _leaves(dtype: torch.dtype, layout: torch.memory_format, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, *rest = (torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)
    return [image.to(memory_format=layout), *rest]


def _gradients(function: Any, leaves: list[Tensor], *rest: Any, **options: Any) -> tuple[Tensor, ...]:
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = function(*leaves, *rest, **options)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return torch.autograd.grad(out, leaves, grad.contiguous(memory_format=torch.preserve_format))


@settings(deadline=None, max_examples=150)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 37), st.integers(4, 11), st.integers(4, 19)),
    st.one_of(st.just((3, 3)), WINDOWS),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([(0, 0), (1, 1), (2, 0)]),
    st.sampled_from(LAYOUTS),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_of_a_depthwise_convolution(
    shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    leaves = _leaves(dtype, layout, shape, (shape[1], 1, *kernel), (shape[1],))
    expected = _gradients(F.conv2d, leaves, stride, padding, 1, shape[1])
    actual = _gradients(depthwise_conv2d, leaves, stride, padding, backend="native")
    tolerance = 1e-11 if dtype == torch.float64 else 1e-3
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@settings(deadline=None, max_examples=100)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 9), st.integers(1, 19)),
    st.integers(1, 70),
    st.sampled_from(LAYOUTS),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_of_a_pointwise_convolution(
    shape: tuple[int, ...], filters: int, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    leaves = _leaves(dtype, layout, shape, (filters, shape[1], 1, 1), (filters,))
    expected = _gradients(F.conv2d, leaves)
    actual = _gradients(pointwise_conv2d, leaves, backend="native")
    tolerance = 1e-11 if dtype == torch.float64 else 1e-3
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_a_small_weight_over_many_positions(layout: torch.memory_format) -> None:
    # Where channels are last, the positions of the one image are summed in parts.
    leaves = _leaves(torch.float64, layout, (1, 40, 37, 61), (30, 40, 1, 1))
    expected = _gradients(F.conv2d, leaves)
    actual = _gradients(pointwise_conv2d, leaves, backend="native")
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", [depthwise_conv2d, pointwise_conv2d])
def test_narrow_types_are_summed_wide(function: Any, dtype: torch.dtype) -> None:
    # 8,192 ones: float16 stops at 2,048, bfloat16 at 256.
    x = torch.ones(2, 1, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.ones(1, 1, 1, 1, dtype=dtype, requires_grad=True)
    function(x, weight, backend="native").sum().backward()
    assert weight.grad == 8192


@pytest.mark.parametrize("stride", [1, 2])
def test_they_depend_on_no_number_of_threads(stride: int) -> None:
    depthwise = _leaves(torch.float32, torch.channels_last, (5, 40, 30, 30), (40, 1, 3, 3))
    pointwise = _leaves(torch.float32, torch.channels_last, (5, 40, 30, 30), (30, 40, 1, 1))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3, 4):
            torch.set_num_threads(threads)
            results.append(
                (
                    *_gradients(depthwise_conv2d, depthwise, None, stride, 1, backend="native"),
                    *_gradients(pointwise_conv2d, pointwise, backend="native"),
                )
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
def test_of_planes_too_wide_for_the_scratch(stride: int) -> None:
    leaves = _leaves(torch.float64, LAYOUTS[0], (1, 2, 3, 70_000), (2, 1, 3, 3))
    expected = _gradients(F.conv2d, leaves, None, stride, 1, 1, 2)
    actual = _gradients(depthwise_conv2d, leaves, None, stride, 1, backend="native")
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_infinity_reaches_only_the_taps_that_meet_it(stride: int, layout: torch.memory_format) -> None:
    image, weight = _leaves(torch.float32, layout, (1, 16, 5, 21), (16, 1, 3, 3))
    image[..., -1] = torch.inf
    _, by_weight = _gradients(depthwise_conv2d, [image, weight], None, stride, backend="native")
    assert not by_weight[..., 2].isfinite().any()
    assert by_weight[..., :2].isfinite().all()
