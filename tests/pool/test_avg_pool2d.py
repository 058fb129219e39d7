"""avg_pool2d and its gradient beyond agreement with their reference: errors, sums that are preserved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_windows import BACKENDS, DTYPES, avg_windows, images, in_layout, sizes_fit
from visionops import avg_pool2d, avg_pool2d_backward
from visionops.pool import reference
from visionops.testing import compare

X = torch.arange(40.0).reshape(1, 2, 4, 5)
G = torch.ones(1, 2, 2, 2)


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
        (
            lambda: avg_pool2d(X, 2, divisor_override=1 << 63),
            ValueError,
            f"divisor_override: expected an integer of 64 bits, got {1 << 63}",
        ),
        (
            lambda: avg_pool2d_backward(G, (1, 2, 4.0, 4), 2),
            TypeError,
            "input_size: expected an integer, got float",
        ),
        (
            lambda: avg_pool2d_backward(G, (1, 2, None, 4), 2),
            TypeError,
            "input_size: expected an integer, got NoneType",
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


TWO = [2, 2, 2, 2, 0, 0, 1, 1]  # halving


@pytest.mark.parametrize(
    "call",
    [
        lambda ops: ops.avg_pool2d_native(X[0], TWO, False, True, None),
        lambda ops: ops.avg_pool2d_native(X, TWO, False, True, 0),
        lambda ops: ops.avg_pool2d_native(X, [2, 2, 2, 2, 2, 2, 1, 1], False, True, None),
        lambda ops: ops.avg_pool2d_native(X, [2, 2, 2, 2, 0, 0, 1, 2], False, True, None),
        lambda ops: ops.avg_pool2d_native(X.long(), TWO, False, True, None),
        lambda ops: ops.avg_pool2d_native(X, [9, 9, 2, 2, 0, 0, 1, 1], False, True, None),
        lambda ops: ops.avg_pool2d_backward_native(G, [4, 7], TWO, False, True, None),
        lambda ops: ops.avg_pool2d_backward_native(G, [4, 5], [2, 2, 2, 2, 0, 0, 2, 1], False, True, None),
        lambda ops: ops.avg_pool2d_backward_native(G, [4, 5, 6], TWO, False, True, None),
        lambda ops: ops.avg_pool2d_backward_native(G[0], [4, 5], TWO, False, True, None),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[Any], Any]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call(torch.ops.visionops)


@settings(deadline=None, max_examples=150)
@given(images(), avg_windows(), st.booleans(), st.sampled_from(DTYPES), st.integers(1, 20), st.sampled_from(BACKENDS))
def test_drawn_windows(
    image: Any, window: dict[str, Any], channels_last: bool, dtype: torch.dtype, more: int, backend: str
) -> None:
    sizes_fit(image.shape, window)
    image = np.tile(image, (1, more, 1, 1))  # few channels go by rows, many by windows
    x, name = in_layout(torch.from_numpy(image).to(dtype), channels_last), str(dtype).removeprefix("torch.")
    terms = window["kernel_size"][0] * window["kernel_size"][1]
    output = avg_pool2d(x, **window, backend=backend)
    compare(output.double().numpy(), reference.avg_pool2d(image, **window), name, terms)
    grad = torch.randint(-8, 9, output.shape).to(dtype)
    got = avg_pool2d_backward(grad, x.shape, **window, backend=backend).double()
    compare(got.numpy(), reference.avg_pool2d_backward(grad.double().numpy(), x.shape, **window), name, terms)
    if window["divisor_override"] is None and (window["padding"] == (0, 0) or not window["count_include_pad"]):
        tolerance = {"float64": 1e-10, "float32": 1e-3}.get(name)
        if tolerance is not None:
            assert abs(got.sum() - grad.double().sum()) < tolerance


def test_narrow_types_sum_in_float32() -> None:
    # 4,096 ones: a sum in float16 stops at 2,048, in bfloat16 at 256.
    for dtype in (torch.float16, torch.bfloat16):
        assert avg_pool2d(torch.ones(1, 1, 64, 64, dtype=dtype), 64).item() == 1
        many = torch.ones(1, 16, 8, 8, dtype=dtype).to(memory_format=torch.channels_last) * 40_000
        assert torch.equal(avg_pool2d(many, 4), many[:, :, :2, :2])
