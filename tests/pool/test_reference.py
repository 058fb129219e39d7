"""The references of room pool against second witnesses: torch in float64, and values worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional as F

from drawn_windows import avg_windows, images, max_windows, sizes_fit
from visionops.pool import reference as ref


@settings(deadline=None, max_examples=80)
@given(images(), max_windows())
def test_max_pool_is_torchs(image: Any, window: dict[str, Any]) -> None:
    sizes_fit(image.shape, window)
    x = torch.from_numpy(image)
    output, indices = ref.max_pool2d(image, **window, return_indices=True)
    expected, at = F.max_pool2d(x, **window, return_indices=True)
    np.testing.assert_array_equal(output, expected.numpy())
    # Torch's index of a window without a tap in the image lies beyond it, or names another pixel.
    inside = indices >= 0
    np.testing.assert_array_equal(indices[inside], at.numpy()[inside])


@settings(deadline=None, max_examples=80)
@given(images(finite=True), max_windows(dilation=False))
def test_max_pool_backward_is_torchs(image: Any, window: dict[str, Any]) -> None:
    sizes_fit(image.shape, window)
    x = torch.from_numpy(image).requires_grad_()
    expected = F.max_pool2d(x, **window)
    grad = np.random.default_rng(0).normal(size=expected.shape)
    expected.backward(torch.from_numpy(grad))
    _, offsets = ref.max_pool2d_with_offsets(image, **window)
    got = ref.max_pool2d_backward(grad, offsets, image.shape, **window)
    np.testing.assert_allclose(got, x.grad.numpy(), rtol=1e-12, atol=1e-12)  # type: ignore[union-attr]


@settings(deadline=None, max_examples=80)
@given(images(finite=True), avg_windows())
def test_avg_pool_and_its_gradient_are_torchs(image: Any, window: dict[str, Any]) -> None:
    sizes_fit(image.shape, window)
    x = torch.from_numpy(image).requires_grad_()
    expected = F.avg_pool2d(x, **window)
    grad = np.random.default_rng(0).normal(size=expected.shape)
    expected.backward(torch.from_numpy(grad))
    got = ref.avg_pool2d_backward(grad, image.shape, **window)
    np.testing.assert_allclose(ref.avg_pool2d(image, **window), expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got, x.grad.numpy(), rtol=1e-12, atol=1e-12)  # type: ignore[union-attr]


def test_of_equal_maxima_the_first_counts_and_of_nans_the_last() -> None:
    nan, inf = np.nan, np.inf
    rows = np.array([[[1.0, 2, 2, 0]], [[nan, 3, nan, 4]], [[-inf, -inf, -inf, -inf]], [[-0.0, 0.0, -0.0, 0.0]]])
    output, offsets = ref.max_pool2d_with_offsets(rows, (1, 4))
    np.testing.assert_array_equal(output[:, 0, 0], [2, nan, -inf, 0])
    assert offsets[:, 0, 0].tolist() == [1, 2, 0, 0]


def test_the_first_of_minus_infinities_lies_in_the_image() -> None:
    output, offsets = ref.max_pool2d_with_offsets(np.full((1, 1, 2, 2), -np.inf), 3, 1, 1)
    assert np.isneginf(output).all()
    assert offsets.tolist() == [[[[4, 3], [1, 0]]]]


def test_a_dilated_window_around_the_image_has_no_maximum() -> None:
    output, indices = ref.max_pool2d(np.ones((1, 1, 3, 3)), 2, 1, 1, 4, return_indices=True)
    assert output.tolist() == [[[[-np.inf]]]]
    assert indices.tolist() == [[[[-1]]]]
    grad = ref.max_pool2d_backward(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1), np.uint8), (1, 1, 3, 3), 2, 1, 1, 4)
    assert not grad.any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[1 / 4, 2 / 4], [1 / 4, 2 / 4]]),
        ({"count_include_pad": False}, [[1, 1], [1, 1]]),
        ({"divisor_override": 2}, [[1 / 2, 2 / 2], [1 / 2, 2 / 2]]),
    ],
)
def test_divisors_by_hand(options: dict[str, Any], expected: list[list[float]]) -> None:
    # Windows of 2 by 2 over one row of ones in a border of zeros: the first column of windows holds one of them.
    got = ref.avg_pool2d(np.ones((1, 1, 1, 3)), 2, (1, 2), (1, 1), **options)
    np.testing.assert_array_equal(got[0, 0], expected)


def test_what_ceil_mode_adds_never_counts() -> None:
    got = ref.avg_pool2d(np.ones((1, 1, 1, 3)), (1, 2), (1, 2), 0, True)
    np.testing.assert_array_equal(got[0, 0], [[1, 1]])
