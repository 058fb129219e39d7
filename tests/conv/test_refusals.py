"""What the convolutions refuse: messages of the public functions, and what the torch operations assert without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from visionops import conv2d, conv_cost, conv_transpose2d, im2col_conv2d, receptive_field

X, W, B = torch.randn(2, 4, 5, 6), torch.randn(6, 4, 3, 3), torch.randn(6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conv2d(X[0, 0], W), ValueError, "input: expected shape (B, C, H, W) or (C, H, W), got (5, 6)"),
        (lambda: conv2d(X.int(), W), TypeError, "input: expected dtype floating, got torch.int32"),
        (lambda: conv2d(X, W[0]), ValueError, "weight: expected shape (O, C / groups, kh, kw), got (4, 3, 3)"),
        (lambda: conv2d(X, None), TypeError, "weight: expected a torch.Tensor, got NoneType"),
        (
            lambda: conv2d(X, W.double()),
            TypeError,
            "weight: expected dtype torch.float32 as input, got torch.float64",
        ),
        (lambda: conv2d(X, W.to("meta")), TypeError, "weight: expected device cpu as input, got meta"),
        (
            lambda: conv2d(X, W[:, :3]),
            ValueError,
            "weight: expected shape (O, C / groups, kh, kw) with C=4 and groups=1, got (6, 3, 3, 3)",
        ),
        (lambda: conv2d(X, W, groups=4), ValueError, "groups: expected a divisor of 4 and 6 channels, got 4"),
        (lambda: conv2d(X, W, groups=0), ValueError, "groups: expected a divisor of 4 and 6 channels, got 0"),
        (lambda: conv2d(X, W, groups=1.0), TypeError, "groups: expected an integer, got float"),
        (lambda: conv2d(X, W, B[:5]), ValueError, "bias: expected shape (O,) with O=6, got (5,)"),
        (lambda: conv2d(X, W, B.double()), TypeError, "bias: expected dtype torch.float32 as input, got torch.float64"),
        (
            lambda: conv2d(X, W, activation=[]),
            ValueError,
            "activation: expected one of None, 'relu', 'leaky_relu', 'relu6', 'silu', 'hardswish', 'gelu', got []",
        ),
        (
            lambda: conv_transpose2d(X, W.transpose(0, 1)[..., :0]),
            ValueError,
            "weight: expected at least one pixel, got (4, 6, 3, 0)",
        ),
        (
            lambda: conv_transpose2d(X[:, :, :0], W.transpose(0, 1)),
            ValueError,
            f"input: expected at least one pixel, got {tuple(X[:, :, :0].shape)}",
        ),
        (lambda: conv2d(X, W, stride=2, padding="same"), ValueError, "padding: 'same' expects stride 1, got (2, 2)"),
        (
            lambda: conv2d(X, W, padding="full"),
            ValueError,
            "padding: expected integers, 'same' or 'valid', got 'full'",
        ),
        (
            lambda: conv2d(X, W, padding=1 << 63),
            ValueError,
            "padding: expected integers of 64 bits, got 9223372036854775808",
        ),
        (
            lambda: conv2d(X, W, stride=(1, 1 << 63)),
            ValueError,
            "stride: expected integers of 64 bits, got (1, 9223372036854775808)",
        ),
        (
            lambda: conv2d(X, W, dilation=3),
            ValueError,
            "kernel_size: expected one that fits into the padded image, 5x6, got (3, 3) with dilation (3, 3)",
        ),
        (
            lambda: conv2d(X, W, activation="tanh"),
            ValueError,
            "activation: expected one of None, 'relu', 'leaky_relu', 'relu6', 'silu', 'hardswish', 'gelu', got 'tanh'",
        ),
        (lambda: im2col_conv2d(X, W[:, :1]), ValueError, None),
        (
            lambda: conv_transpose2d(X, W),
            ValueError,
            "weight: expected shape (C, O / groups, kh, kw) with C=4 and groups=1, got (6, 4, 3, 3)",
        ),
        (
            lambda: conv_transpose2d(X, W[:4], output_padding=1),
            ValueError,
            "output_padding: expected less than the stride or the dilation, got 1",
        ),
        (
            lambda: conv_transpose2d(X, W[:4], padding=4),
            ValueError,
            "padding: expected one that leaves a result, got 4",
        ),
        (
            lambda: conv_cost((1, 3, 8), 4, 3),
            ValueError,
            "input_size: expected (B, C, H, W), got (1, 3, 8)",
        ),
        (lambda: conv_cost((1, 3, 8, 8), 4, 3, groups=2), ValueError, None),
        (
            lambda: receptive_field([(3,)]),
            ValueError,
            "layers: expected (kernel_size, stride) or (kernel_size, stride, dilation), got (3,)",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str | None) -> None:
    with pytest.raises(error) as caught:
        call()
    if message is not None:
        assert str(caught.value) == message


OPS = torch.ops.visionops
ONE, NONE = [1, 1], [0, 0, 0, 0]
G = torch.ones(2, 6, 3, 4)
FILTERS, WIDE = (OPS.winograd_filters_native(weight) for weight in (W, torch.ones(1, 513, 3, 3)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: OPS.conv2d_native(X[0], W, None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W[0], None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W.double(), None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X.int(), W.int(), None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W[:, :3], None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, B[:5], ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, B.double(), ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, [0, 1], NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, [1], NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, [0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, [-1, 0, 0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, [0, -3, 0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, [4, 4], 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, ONE, 0, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, ONE, 3, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, ONE, 1, 7),
        lambda: OPS.conv2d_aten(X[0], W, None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_aten(X, W.double(), None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_aten(X, W[:, :3], None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_aten(X, W, B[:5], ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_aten(X, W, None, [1], NONE, ONE, 1, 0),
        lambda: OPS.conv2d_aten(X, W, None, ONE, [0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_aten(X, W, None, ONE, [0, -3, 0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_aten(X, W, None, ONE, NONE, ONE, 0, 0),
        lambda: OPS.conv2d_aten(X, W, None, ONE, NONE, ONE, 1, 7),
        lambda: OPS.conv2d_backward_aten(G[0], X, W, ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_backward_aten(G[:1], X, W, ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_backward_aten(G, X.double(), W, ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_backward_aten(G, X, W[:, :3], ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_backward_aten(G, X, W, ONE, NONE, ONE, 0),
        lambda: OPS.winograd_filters_native(W[:, :, :2]),
        lambda: OPS.winograd_filters_native(W.double()),
        lambda: OPS.winograd_filters_native(W[0]),
        lambda: OPS.conv2d_winograd_native(X[0], FILTERS, None, 6, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X.double(), FILTERS.double(), None, 6, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X, FILTERS[..., :-1], None, 6, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X, FILTERS[:, :15], None, 6, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X, FILTERS, None, 60, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X, FILTERS, None, -1, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X[:, :3], FILTERS, None, 6, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X, FILTERS, B[:5], 6, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X, FILTERS, None, 6, [0, 0], 0),
        lambda: OPS.conv2d_winograd_native(X[:, :, :2], FILTERS, None, 6, NONE, 0),
        lambda: OPS.conv2d_winograd_native(X, FILTERS, None, 6, NONE, 7),
        lambda: OPS.conv2d_winograd_native(torch.ones(1, 513, 3, 3), WIDE, None, 1, NONE, 0),
        lambda: OPS.activation_backward_native(G, X, 1),
        lambda: OPS.activation_backward_native(G, G.double(), 1),
        lambda: OPS.activation_backward_native(G, G, -1),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[], Tensor]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call()


def operation(name: str, backend: str) -> Any:
    return getattr(OPS, f"{name}_{backend}")


@pytest.mark.parametrize("backend", ["native", "aten"])
@pytest.mark.parametrize(
    "call",
    [
        lambda backend: operation("conv_transpose2d", backend)(G, W, None, [5, 9], ONE, NONE, ONE, 1),
        lambda backend: operation("conv_transpose2d", backend)(G, W, None, [5, -6], ONE, NONE, ONE, 1),
        lambda backend: operation("conv_transpose2d", backend)(G, W[:5], None, [5, 6], ONE, NONE, ONE, 1),
        lambda backend: operation("conv_transpose2d", backend)(G, W, B, [5, 6], ONE, NONE, ONE, 1),
        lambda backend: operation("conv2d_weight", backend)(G, X, [2, 3], ONE, NONE, ONE, 1),
        lambda backend: operation("conv2d_weight", backend)(G[:1], X, [3, 3], ONE, NONE, ONE, 1),
        lambda backend: operation("conv2d_weight", backend)(G, X, [3], ONE, NONE, ONE, 1),
        lambda backend: operation("conv2d_weight", backend)(G, X.double(), [3, 3], ONE, NONE, ONE, 1),
        lambda backend: operation("conv2d_weight", backend)(G, X, [3, 3], ONE, NONE, ONE, 0),
    ],
)
def test_so_do_the_gradients_of_both_backends(call: Callable[[str], Tensor], backend: str) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        call(backend)
