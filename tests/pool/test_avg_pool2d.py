"""avg_pool2d and its gradient beyond agreement with their reference: errors, layouts, sums that are preserved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from drawn_windows import avg_windows, images, sizes_fit
from visionops import avg_pool2d, avg_pool2d_backward
from visionops.pool import reference
from visionops.testing import compare

X = torch.arange(40.0).reshape(1, 2, 4, 5)
G = torch.ones(1, 2, 2, 2)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: avg_pool2d(X.int(), 2), TypeError, "input: expected dtype floating, got torch.int32"),
        (lambda: avg_pool2d(X[0, 0], 2), ValueError, "input: expected shape (B, C, H, W) or (C, H, W), got (4, 5)"),
        (lambda: avg_pool2d(X, 3, padding=2), ValueError, "padding: expected at most half of kernel_size, 1, got 2"),
        (
            lambda: avg_pool2d(X, 2, divisor_override=0),
            ValueError,
            "divisor_override: expected an integer other than 0, got 0",
        ),
        (
            lambda: avg_pool2d(X, 2, divisor_override=1.5),
            TypeError,
            "divisor_override: expected an integer, got float",
        ),
        (lambda: avg_pool2d(X, 6), ValueError, "input: expected a height of at least 6 for this window, got 4"),
        (
            lambda: avg_pool2d_backward(G, (1, 2, 9, 9), 2),
            ValueError,
            "grad_output: expected shape (1, 2, 4, 4), got (1, 2, 2, 2)",
        ),
        (
            lambda: avg_pool2d_backward(G, (1, 2, 1, 9), 2),
            ValueError,
            "input_size: expected a height of at least 2 for this window, got 1",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


TWO, NONE = [2, 2], [0, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda ops: ops.avg_pool2d_native(X[0], TWO, TWO, NONE, False, True, None),
        lambda ops: ops.avg_pool2d_native(X, TWO, TWO, NONE, False, True, 0),
        lambda ops: ops.avg_pool2d_native(X, TWO, TWO, [2, 2], False, True, None),
        lambda ops: ops.avg_pool2d_native(X.long(), TWO, TWO, NONE, False, True, None),
        lambda ops: ops.avg_pool2d_native(X, [9, 9], TWO, NONE, False, True, None),
        lambda ops: ops.avg_pool2d_backward_native(G, [4, 7], TWO, TWO, NONE, False, True, None),
        lambda ops: ops.avg_pool2d_backward_native(G, [4, 5, 6], TWO, TWO, NONE, False, True, None),
        lambda ops: ops.avg_pool2d_backward_native(G[0], [4, 5], TWO, TWO, NONE, False, True, None),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[Any], Any]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call(torch.ops.visionops)


def in_layout(image: torch.Tensor, channels_last: bool) -> torch.Tensor:
    return image.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@settings(deadline=None, max_examples=80)
@given(images(), avg_windows(), st.booleans(), st.sampled_from(DTYPES), st.integers(1, 20))
def test_drawn_windows(image: Any, window: dict[str, Any], channels_last: bool, dtype: torch.dtype, more: int) -> None:
    sizes_fit(image.shape, window)
    image = np.tile(image, (1, more, 1, 1))  # few channels go by rows, many by windows
    x, name = in_layout(torch.from_numpy(image).to(dtype), channels_last), str(dtype).removeprefix("torch.")
    output = avg_pool2d(x, **window)
    compare(output.double().numpy(), reference.avg_pool2d(image, **window), name, 49)
    grad = torch.randint(-8, 9, output.shape).to(dtype)
    got = avg_pool2d_backward(grad, x.shape, **window).double()
    compare(got.numpy(), reference.avg_pool2d_backward(grad.double().numpy(), x.shape, **window), name, 49)
    if window["divisor_override"] is None and (window["padding"] == (0, 0) or not window["count_include_pad"]):
        tolerance = {"float64": 1e-10, "float32": 1e-3}.get(name)
        if tolerance is not None:
            assert abs(got.sum() - grad.double().sum()) < tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(2, 70, 15, 20), (2, 3, 15, 20), (1, 300, 9, 8), (1, 1, 15, 20)])
@pytest.mark.parametrize("kernel", [3, 6])  # by windows or by rows
def test_layouts(dtype: torch.dtype, channels_last: bool, shape: tuple[int, ...], kernel: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = in_layout(torch.randn(shape, generator=generator), channels_last).to(dtype).requires_grad_()
    y = x.detach().double().requires_grad_()
    window = {"kernel_size": kernel, "stride": 2, "padding": kernel // 2}
    ours, torchs = avg_pool2d(x, **window), F.avg_pool2d(y, **window)
    name = str(dtype).removeprefix("torch.")
    compare(ours.detach().double().numpy(), torchs.detach().numpy(), name, kernel**2)
    assert ours.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    grad = in_layout(torch.randint(-8, 9, ours.shape).to(dtype), channels_last)
    ours.backward(grad)
    torchs.backward(grad.double())
    compare(x.grad.double().numpy(), y.grad.numpy(), name, 4 * kernel**2)  # type: ignore[union-attr]
    assert x.grad.stride() == x.stride()  # type: ignore[union-attr]


def test_narrow_types_sum_in_float32() -> None:
    # 4,096 ones: a sum in float16 stops at 2,048, in bfloat16 at 256.
    for dtype in (torch.float16, torch.bfloat16):
        assert avg_pool2d(torch.ones(1, 1, 64, 64, dtype=dtype), 64).item() == 1
        many = torch.ones(1, 16, 8, 8, dtype=dtype).to(memory_format=torch.channels_last) * 40_000
        assert torch.equal(avg_pool2d(many, 4), many[:, :, :2, :2])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
def test_planes_of_several_items_of_work(channels_last: bool, kernel: int) -> None:
    # Rows that two items share are made by both, and gradients cross from one to the other.
    x = in_layout(torch.randn(1, 24, 301, 307), channels_last).requires_grad_()
    y = x.detach().clone().requires_grad_()
    ours, torchs = avg_pool2d(x, kernel, 2, 1), F.avg_pool2d(y, kernel, 2, 1)
    torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5)
    grad = torch.randn(ours.shape)
    ours.backward(grad)
    torchs.backward(grad)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
