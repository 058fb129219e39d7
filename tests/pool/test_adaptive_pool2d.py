"""Adaptive, global and pyramid pooling, and unpooling, beyond agreement with their reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from drawn_windows import BACKENDS, DTYPES, SIDES, images, in_layout
from visionops import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    global_avg_pool2d,
    max_pool2d,
    max_unpool2d,
    nn,
    spatial_pyramid_pool,
)
from visionops.pool import reference
from visionops.testing import compare

X = torch.arange(40.0).reshape(1, 2, 4, 5)
AT = torch.arange(40).reshape(1, 2, 4, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adaptive_avg_pool2d(X, 0), ValueError, "output_size: expected 1 or more, got 0"),
        (
            lambda: adaptive_avg_pool2d(X, (1, 2, 3)),
            ValueError,
            "output_size: expected an integer or two, got (1, 2, 3)",
        ),
        (lambda: adaptive_avg_pool2d(X, 1.5), TypeError, "output_size: expected integers or None, got float"),
        (
            lambda: adaptive_max_pool2d(X, (1 << 63, 1)),
            ValueError,
            f"output_size: expected an integer of 64 bits, got {1 << 63}",
        ),
        (
            lambda: max_unpool2d(X, AT, 2, output_size=(8.0, 10)),
            TypeError,
            "output_size: expected an integer, got float",
        ),
        (lambda: max_unpool2d(X, AT, 2, output_size=(8, "9")), TypeError, "output_size: expected an integer, got str"),
        (lambda: adaptive_max_pool2d(X.int(), 1), TypeError, "input: expected dtype floating, got torch.int32"),
        (
            lambda: adaptive_max_pool2d(X[..., :0], 1),
            ValueError,
            "input: expected a height and a width of at least 1, got (1, 2, 4, 0)",
        ),
        (lambda: max_unpool2d(X, AT.int(), 2), TypeError, "indices: expected dtype torch.int64, got torch.int32"),
        (
            lambda: max_unpool2d(X, AT[0], 2),
            ValueError,
            "indices: expected the shape of input, (1, 2, 4, 5), got (2, 4, 5)",
        ),
        (lambda: max_unpool2d(X, AT.to("meta"), 2), TypeError, "indices: expected device cpu as input, got meta"),
        (
            lambda: max_unpool2d(X, AT, 2, output_size=(8, 12)),
            ValueError,
            "output_size: expected less than 2 from (8, 10), got (8, 12)",
        ),
        (
            lambda: max_unpool2d(X, AT, 2, output_size=(8,)),
            ValueError,
            "output_size: expected (height, width) or the image's shape, got (8,)",
        ),
        (
            lambda: max_unpool2d(X, AT, 2, output_size=(2, 2, 8, 10)),
            ValueError,
            "output_size: expected (1, 2, 'H', 'W'), got (2, 2, 8, 10)",
        ),
        (
            lambda: max_unpool2d(X[:, :, :1], AT[:, :, :1], 2, padding=1),
            ValueError,
            "input: expected a size that unpools to at least one pixel, got (1, 2, 1, 5)",
        ),
        (lambda: spatial_pyramid_pool(X, mode="sum"), ValueError, "mode: expected one of 'max', 'avg', got 'sum'"),
        (lambda: spatial_pyramid_pool(X, ()), ValueError, "levels: expected one or more integers, got ()"),
        (lambda: spatial_pyramid_pool(X, (1, 0)), ValueError, "levels: expected 1 or more, got 0"),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "call",
    [
        lambda ops: ops.adaptive_avg_pool2d_native(X[0], [1, 1]),
        lambda ops: ops.adaptive_avg_pool2d_native(X, [1]),
        lambda ops: ops.adaptive_avg_pool2d_native(X, [0, 1]),
        lambda ops: ops.adaptive_avg_pool2d_native(X, [1, 2**31]),
        lambda ops: ops.adaptive_avg_pool2d_native(X.long(), [1, 1]),
        lambda ops: ops.adaptive_avg_pool2d_backward_native(X, [0, 5]),
        lambda ops: ops.adaptive_max_pool2d_native(X[..., :0], [1, 1]),
        lambda ops: ops.max_unpool2d_native(X, AT[:, :1], [8, 10], False),
        lambda ops: ops.max_unpool2d_native(X, AT.int(), [8, 10], False),
        lambda ops: ops.max_unpool2d_native(X, AT, [8, 0], False),
        lambda ops: ops.max_unpool2d_native(X, AT, [8], False),
        lambda ops: ops.max_unpool2d_taken_native(X[:, :1], AT),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[Any], Any]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call(torch.ops.visionops)


BINS = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(deadline=None, max_examples=100)
@given(images(), BINS, st.booleans(), st.sampled_from(DTYPES), st.integers(1, 20), st.sampled_from(BACKENDS))
def test_drawn_bins(image: Any, bins: Any, channels_last: bool, dtype: torch.dtype, more: int, backend: str) -> None:
    image = np.tile(image, (1, more, 1, 1))
    x, name = in_layout(torch.from_numpy(image).to(dtype), channels_last), str(dtype).removeprefix("torch.")
    largest, indices = adaptive_max_pool2d(x, bins, return_indices=True, backend=backend)
    expected, at = reference.adaptive_max_pool2d(image, bins, return_indices=True)
    np.testing.assert_array_equal(largest.double().numpy(), expected)
    np.testing.assert_array_equal(indices.numpy(), at)
    average = adaptive_avg_pool2d(x, bins, backend=backend)
    compare(average.double().numpy(), reference.adaptive_avg_pool2d(image, bins), name, 144)
    of_all = global_avg_pool2d(x, backend=backend)
    compare(of_all.double().numpy(), reference.global_avg_pool2d(image), name, 144)
    for mode in ("max", "avg"):
        pyramid = spatial_pyramid_pool(x, bins, mode=mode, backend=backend)
        compare(pyramid.double().numpy(), reference.spatial_pyramid_pool(image, bins, mode=mode), name, 144)
    # Images of one row and one column are in both layouts at once.
    if channels_last and average.shape[1] > 1 and max(bins) > 1 and x.stride() != x.contiguous().stride():
        assert average.is_contiguous(memory_format=torch.channels_last)


@settings(deadline=None, max_examples=100)
@given(images(), SIDES, SIDES, st.booleans(), st.sampled_from(DTYPES), st.integers(1, 20), st.sampled_from(BACKENDS))
def test_drawn_indices(
    image: Any, height: int, width: int, channels_last: bool, dtype: torch.dtype, more: int, backend: str
) -> None:
    # Some of them name one pixel, some none.
    image = np.tile(image, (1, more, 1, 1))
    indices = torch.randint(-2, height * width + 2, image.shape)
    values = in_layout(torch.from_numpy(image).to(dtype), channels_last)
    raw = getattr(torch.ops.visionops, f"max_unpool2d_{backend}")
    got = raw(values, in_layout(indices, not channels_last), [height, width], False)
    expected = reference.max_unpool2d(image, indices.numpy(), 1, output_size=(height, width))
    np.testing.assert_array_equal(got.double().numpy(), expected)


@settings(deadline=None, max_examples=60)
@given(images(finite=True), BINS)
def test_the_references_and_gradients_are_torchs(image: Any, bins: Any) -> None:
    for ours, theirs, meaning in (
        (adaptive_avg_pool2d, F.adaptive_avg_pool2d, reference.adaptive_avg_pool2d),
        (adaptive_max_pool2d, F.adaptive_max_pool2d, reference.adaptive_max_pool2d),
    ):
        x, y = (torch.from_numpy(image).requires_grad_() for _ in range(2))
        got, expected = ours(x, bins), theirs(y, bins)
        np.testing.assert_allclose(meaning(image, bins), expected.detach().numpy(), rtol=1e-12, atol=1e-12)
        grad = torch.from_numpy(np.random.default_rng(0).normal(size=expected.shape))
        got.backward(grad)
        expected.backward(grad)
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-12)
    _, at = F.adaptive_max_pool2d(torch.from_numpy(image), bins, return_indices=True)
    np.testing.assert_array_equal(reference.adaptive_max_pool2d(image, bins, return_indices=True)[1], at.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [3, 70, 700])
def test_gradients_in_both_layouts(dtype: torch.dtype, channels_last: bool, channels: int) -> None:
    x = in_layout(torch.randint(-99, 99, (2, channels, 9, 10)), channels_last).to(dtype).requires_grad_()
    y = x.detach().double().requires_grad_()
    name = str(dtype).removeprefix("torch.")
    for ours, theirs in ((adaptive_avg_pool2d, F.adaptive_avg_pool2d), (adaptive_max_pool2d, F.adaptive_max_pool2d)):
        got, expected = ours(x, (4, 3)), theirs(y, (4, 3))
        grad = in_layout(torch.randint(-8, 9, got.shape).to(dtype), channels_last)
        got, expected = torch.autograd.grad(got, x, grad)[0], torch.autograd.grad(expected, y, grad.double())[0]
        compare(got.double().numpy(), expected.numpy(), name, 4)
        assert got.stride() == x.stride()


# Torch's own, which lets threads race for a pixel.
NOT_DETERMINISTIC = pytest.mark.filterwarnings("ignore:max_unpooling2d_forward_out does not have a deterministic")


@NOT_DETERMINISTIC
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_unpooling_is_torchs(dtype: torch.dtype, channels_last: bool) -> None:
    x = in_layout(torch.randn(2, 70, 9, 12), channels_last).to(dtype)
    values, indices = max_pool2d(x, 2, return_indices=True)
    ours, theirs = (values.clone().requires_grad_() for _ in range(2))
    got = max_unpool2d(ours, in_layout(indices, not channels_last), 2, output_size=x.shape)
    expected = F.max_unpool2d(theirs, indices, 2, output_size=x.shape)
    assert torch.equal(got, expected)
    assert got.stride() == x.stride()
    grad = torch.randn(x.shape).to(dtype)
    got.backward(grad)
    expected.backward(grad)
    assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


def test_indices_of_nothing_go_nowhere() -> None:
    x = torch.randn(1, 1, 3, 3)
    values, indices = max_pool2d(x, 2, 1, 1, 4, return_indices=True)
    assert indices.item() == -1
    assert not max_unpool2d(values, indices, 2).any()


def test_narrow_gradients_are_summed_in_float32() -> None:
    # 2,049 gradients of one pixel: float16 counts to 2,048.
    x = torch.zeros(1, 1, 1, 1, dtype=torch.float16, requires_grad=True)
    adaptive_max_pool2d(x, (1, 2050)).sum().backward()
    assert x.grad.item() == 2050  # type: ignore[union-attr]


@NOT_DETERMINISTIC
def test_modules_are_torchs() -> None:
    x = torch.randn(2, 3, 9, 8)
    for name, arguments in (
        ("MaxPool2d", (3, 2, 1, 1, True, True)),
        ("MaxPool2d", ((3, 2),)),
        ("AvgPool2d", (3, 2, 1, True, False)),
        ("AvgPool2d", (2, None, 0, False, True, 3)),
    ):
        ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
        torch.testing.assert_close(ours(x), theirs(x))
        assert repr(ours).startswith(f"{name}(kernel_size=")
    values, indices = torch.nn.MaxPool2d(2, return_indices=True)(x)
    unpooled = nn.MaxUnpool2d(2)(values, indices, x.shape)
    assert torch.equal(unpooled, torch.nn.MaxUnpool2d(2)(values, indices, x.shape))
    pyramid = nn.SpatialPyramidPool((1, 3))
    assert torch.equal(pyramid(x), torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in (1, 3)], 1))
    assert repr(pyramid) == "SpatialPyramidPool(levels=(1, 3), mode='max')"
