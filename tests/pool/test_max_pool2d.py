"""max_pool2d and its gradient beyond agreement with their reference: errors, what is saved, drawn windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from drawn_windows import BACKENDS, DTYPES, images, in_layout, max_windows, sizes_fit
from visionops import max_pool2d, max_pool2d_backward, max_pool2d_with_offsets
from visionops.pool import reference

X = torch.arange(40.0).reshape(1, 2, 4, 5)
G, O = torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.uint8)  # noqa: E741


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: max_pool2d(X.numpy(), 2), TypeError, "input: expected a torch.Tensor, got ndarray"),
        (lambda: max_pool2d(X[0, 0], 2), ValueError, "input: expected shape (B, C, H, W) or (C, H, W), got (4, 5)"),
        (lambda: max_pool2d(X.long(), 2), TypeError, "input: expected dtype floating, got torch.int64"),
        (lambda: max_pool2d(X, 0), ValueError, "kernel_size: expected 1 or more, got 0"),
        (
            lambda: max_pool2d(X, (2, 2, 2)),
            ValueError,
            "kernel_size: expected an integer or (height, width), got (2, 2, 2)",
        ),
        (lambda: max_pool2d(X, 2.0), TypeError, "kernel_size: expected an integer or (height, width), got 2.0"),
        (lambda: max_pool2d(X, 2, 0), ValueError, "stride: expected 1 or more, got 0"),
        (lambda: max_pool2d(X, 2, 1, -1), ValueError, "padding: expected 0 or more, got -1"),
        (
            lambda: max_pool2d(X, (2, 3), 1, (1, 2)),
            ValueError,
            "padding: expected at most half of kernel_size, 1, got 2",
        ),
        (lambda: max_pool2d(X, 2, 1, 0, 0), ValueError, "dilation: expected 1 or more, got 0"),
        (
            lambda: max_pool2d(X, 5),
            ValueError,
            "input: expected a height of at least 5 for this window, got 4",
        ),
        (
            lambda: max_pool2d(X, (4, 3), 3, (0, 1), 4, True),
            ValueError,
            "input: expected a height of at least 11 for this window, got 4",
        ),
        (lambda: max_pool2d(X[..., :0], 1), ValueError, "input: expected a width of at least 1 for this window, got 0"),
        (
            lambda: max_pool2d_backward(G, O, (4, 5), 2),
            ValueError,
            "input_size: expected 4 sizes, as many as grad_output has, got (4, 5)",
        ),
        (
            lambda: max_pool2d_backward(G, O, (1, 2, 4, 6), 2),
            ValueError,
            "grad_output: expected shape (1, 2, 2, 3), got (1, 2, 2, 2)",
        ),
        (
            lambda: max_pool2d_backward(G, O[0], X.shape, 2),
            ValueError,
            "offsets: expected the shape of grad_output, (1, 2, 2, 2), got (2, 2, 2)",
        ),
        (
            lambda: max_pool2d_backward(G, O.int(), X.shape, 2),
            TypeError,
            "offsets: expected dtype torch.uint8 for 4 taps, got torch.int32",
        ),
        (
            lambda: max_pool2d_backward(G, O.to("meta"), X.shape, 2),
            TypeError,
            "offsets: expected device cpu as grad_output, got meta",
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
        lambda ops: ops.max_pool2d_native(X[0], TWO, False),
        lambda ops: ops.max_pool2d_native(X, TWO[:6], False),
        lambda ops: ops.max_pool2d_native(X, [0, 2, 2, 2, 0, 0, 1, 1], False),
        lambda ops: ops.max_pool2d_native(X, [2, 2, 2, 0, 0, 0, 1, 1], False),
        lambda ops: ops.max_pool2d_native(X, [2, 2, 2, 2, -1, 0, 1, 1], False),
        lambda ops: ops.max_pool2d_native(X, [2, 2, 2, 2, 2, 0, 1, 1], False),
        lambda ops: ops.max_pool2d_native(X, [2, 2, 2, 2, 0, 0, 1, 2**62], False),
        lambda ops: ops.max_pool2d_native(X, [2**20, 2**20, 2, 2, 2**19, 2**19, 1, 1], True),
        lambda ops: ops.max_pool2d_native(X.long(), TWO, False),
        lambda ops: ops.max_pool2d_native(X, [5, 5, 2, 2, 0, 0, 1, 1], False),
        lambda ops: ops.max_pool2d_native(X[..., :0], [1, 1, 1, 1, 0, 0, 1, 1], False),
        lambda ops: ops.max_pool2d_with_offsets_native(X, [5, 5, 2, 2, 0, 0, 1, 1], False),
        lambda ops: ops.max_pool2d_backward_native(G, O[:, :1], [4, 5], TWO),
        lambda ops: ops.max_pool2d_backward_native(G, O.int(), [4, 5], TWO),
        lambda ops: ops.max_pool2d_backward_native(G, O, [4, 9], TWO),
        lambda ops: ops.max_pool2d_backward_native(G, O, [4], TWO),
        lambda ops: ops.max_pool2d_backward_native(G.long(), O, [4, 5], TWO),
        lambda ops: ops.max_pool2d_taken_native(X[:, :1], O, TWO),
        lambda ops: ops.max_pool2d_taken_native(X, O.int(), TWO),
        lambda ops: ops.max_pool2d_indices_native(O, [4, 9], TWO),
        lambda ops: ops.max_pool2d_indices_native(O.int(), [4, 5], TWO),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[Any], Any]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call(torch.ops.visionops)


@settings(deadline=None, max_examples=150)
@given(images(), max_windows(), st.booleans(), st.sampled_from(DTYPES), st.integers(1, 20), st.sampled_from(BACKENDS))
def test_drawn_windows(
    image: Any, window: dict[str, Any], channels_last: bool, dtype: torch.dtype, more: int, backend: str
) -> None:
    sizes_fit(image.shape, window)
    image = np.tile(image, (1, more, 1, 1))  # few channels go by rows, many by windows
    x = in_layout(torch.from_numpy(image).to(dtype), channels_last)
    window["backend"] = backend
    output, indices = max_pool2d(x, **window, return_indices=True)
    values, (alone, offsets) = max_pool2d(x, **window), max_pool2d_with_offsets(x, **window)
    grad = torch.randint(-8, 9, output.shape).to(dtype)
    got = max_pool2d_backward(grad, offsets, x.shape, **window)
    del window["backend"]
    expected, at = reference.max_pool2d(image, **window, return_indices=True)
    for found in (output, values, alone):
        np.testing.assert_array_equal(found.double().numpy(), expected)
    np.testing.assert_array_equal(indices.numpy(), at)
    back = reference.max_pool2d_backward(grad.double().numpy(), offsets.numpy(), x.shape, **window)
    np.testing.assert_array_equal(got.double().numpy(), back)
    # Every window with a tap in the image gives its gradient to one pixel.
    assert got.double().sum() == (grad.double() * (indices >= 0)).sum()


@pytest.mark.parametrize("channels_last", [False, True])
def test_one_pixel_under_four_windows(channels_last: bool) -> None:
    # The offsets are channels_last, while the pixel is as much the one as the other.
    x = in_layout(torch.randn(2, 20, 1, 1), channels_last).requires_grad_()
    output, offsets = max_pool2d_with_offsets(x, 2, 1, 1)
    assert torch.equal(output, x.expand(2, 20, 2, 2))
    assert offsets[0, 0].tolist() == [[3, 2], [1, 0]]
    torch.autograd.grad(output.sum(), x, create_graph=True)[0].sum()
    spread = max_pool2d_backward(output.detach(), in_layout(offsets, True), x.shape, 2, 1, 1)
    assert torch.equal(spread, 4 * x)


def test_what_is_saved_is_an_eighth_of_torchs_indices() -> None:
    def bytes_saved(function: Callable[..., torch.Tensor]) -> int:
        x = torch.randn(2, 16, 32, 32, requires_grad=True)
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.data_ptr() != x.data_ptr():
                kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            function(x, 3, 2, 1)
        return sum(kept.values())

    assert bytes_saved(max_pool2d) == 2 * 16 * 16 * 16
    assert bytes_saved(F.max_pool2d) == 8 * bytes_saved(max_pool2d)


def test_windows_of_more_taps_than_a_byte_counts() -> None:
    x = torch.randn(1, 2, 40, 40, requires_grad=True)
    for kernel, dtype in (((16, 16), torch.uint8), ((1, 257), torch.int32), ((17, 16), torch.int32)):
        wide = torch.randn(1, 1, 20, 300)
        assert max_pool2d_with_offsets(wide, kernel)[1].dtype == dtype
    output, indices = max_pool2d(x, 20, 5, 10, return_indices=True)
    expected, at = F.max_pool2d(x, 20, 5, 10, return_indices=True)
    assert torch.equal(output, expected)
    assert torch.equal(indices, at)
    (ours,), (torchs,) = (torch.autograd.grad(result.sum(), x) for result in (output, expected))
    assert torch.equal(ours, torchs)


def test_second_derivatives_are_torchs() -> None:
    results = []
    for function in (max_pool2d, F.max_pool2d):
        torch.manual_seed(0)
        x = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad((function(x, 3, 2, 1) ** 3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), x, create_graph=True)
        (third,) = torch.autograd.grad((second**2).sum(), x)
        results.append((first, second, third))
    torch.testing.assert_close(*results)


def test_values_alone_pass_opcheck() -> None:
    for image in (X, in_layout(torch.randn(2, 3, 4, 5), True)):
        arguments = image, [3, 3, 2, 2, 1, 1, 1, 1], True
        torch.library.opcheck(torch.ops.visionops.max_pool2d_native.default, arguments)


def test_gradients_are_the_same_bits_in_every_run_and_way() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, 64, 65, generator=generator)
    _, offsets = max_pool2d_with_offsets(x, 5, 1, 2)
    grad = torch.randn(offsets.shape, generator=generator)
    first = max_pool2d_backward(grad, offsets, x.shape, 5, 1, 2)
    assert all(torch.equal(first, max_pool2d_backward(grad, offsets, x.shape, 5, 1, 2)) for _ in range(3))
    # A kernel with a column more, never the maximum, has 30 taps; with two, 35 and another way of adding.
    padded = torch.cat([x, torch.full((4, 16, 64, 2), -torch.inf)], 3)
    for kernel in ((5, 5), (5, 7), (7, 7)):
        window = {"kernel_size": kernel, "stride": 1, "padding": tuple(k // 2 for k in kernel)}
        _, offsets = max_pool2d_with_offsets(padded, **window)
        grad = torch.randn(offsets.shape, generator=generator)
        got = max_pool2d_backward(grad, offsets, padded.shape, **window)
        wanted = torch.zeros_like(padded).flatten(2)
        indices = max_pool2d(padded, **window, return_indices=True)[1].flatten(2)
        for plane in range(4 * 16):  # in the order of the windows
            np.add.at(
                wanted.flatten(0, 1)[plane].numpy(),
                indices.flatten(0, 1)[plane].numpy(),
                grad.flatten(2).flatten(0, 1)[plane].numpy(),
            )
        assert torch.equal(got.flatten(2), wanted)


def test_vmap_over_no_batches() -> None:
    assert torch.vmap(lambda x: max_pool2d(x, 3))(torch.empty(0, 2, 3, 9, 9)).shape == (0, 2, 3, 3, 3)
