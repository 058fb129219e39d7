"""What fused_batch_norm refuses: the public function word for word, the torch operations for memory safety."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from visionops import fused_batch_norm, fused_batch_norm_

IMAGE, CHANNELS = torch.ones(2, 3, 4, 5), torch.ones(3)


def training(input: Any = IMAGE, *args: Any, **kwargs: Any) -> Tensor:
    return fused_batch_norm(input, *(args or (None, None)), None, None, True, **kwargs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: training(IMAGE[0]), ValueError, "input: expected shape (B, C, H, W), got (3, 4, 5)"),
        (lambda: training(IMAGE.numpy()), TypeError, "input: expected a torch.Tensor, got ndarray"),
        (lambda: training(IMAGE.long()), TypeError, "input: expected dtype floating, got torch.int64"),
        (lambda: training(IMAGE, CHANNELS[:2], None), ValueError, "weight: expected shape (C,) with C=3, got (2,)"),
        (lambda: training(IMAGE, None, CHANNELS[None]), ValueError, "bias: expected shape (C,) with C=3, got (1, 3)"),
        (lambda: training(IMAGE, CHANNELS > 0, None), TypeError, "weight: expected dtype floating, got torch.bool"),
        (lambda: training(IMAGE, [1, 1, 1], None), TypeError, "weight: expected a torch.Tensor, got list"),
        (
            lambda: training(IMAGE, CHANNELS.to("meta"), None),
            TypeError,
            "weight: expected device cpu as input, got meta",
        ),
        (
            lambda: fused_batch_norm(IMAGE, None, None, None, None),
            ValueError,
            "running_mean, running_var: expected both, or in training neither, got None and None",
        ),
        (
            lambda: fused_batch_norm(IMAGE, None, None, CHANNELS, None, True),
            ValueError,
            "running_mean, running_var: expected both, or in training neither, got a tensor and None",
        ),
        (
            lambda: training(residual=IMAGE[:1]),
            ValueError,
            "residual: expected the shape of input, (2, 3, 4, 5), got (1, 3, 4, 5)",
        ),
        (
            lambda: training(residual=IMAGE.double()),
            TypeError,
            "residual: expected dtype torch.float32 as input, got torch.float64",
        ),
        (
            lambda: training(activation="tanh"),
            ValueError,
            "activation: expected one of None, 'relu', 'leaky_relu', 'relu6', 'silu', 'hardswish', 'gelu', got 'tanh'",
        ),
        (lambda: training(momentum=None), TypeError, "momentum: expected a number, got NoneType"),
        (lambda: training(eps=float("nan")), ValueError, "eps: expected a number, got nan"),
        (
            lambda: fused_batch_norm(IMAGE, None, None, CHANNELS, CHANNELS.clone().requires_grad_()),
            ValueError,
            "running_mean, running_var: expected no requires_grad, for they have no gradient, got True",
        ),
        (
            lambda: training(IMAGE[:1, :, :1, :1]),
            ValueError,
            "input: expected more than one value per channel with training=True, got one",
        ),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


OP = torch.ops.visionops.fused_batch_norm_native
BACKWARD = torch.ops.visionops.fused_batch_norm_backward_native


def forward_op(input: Tensor = IMAGE, weight: Any = None, residual: Any = None, activation: int = 0) -> Any:
    return OP(input, weight, None, None, None, True, 0.1, 1e-5, residual, activation, False)


def backward_op(
    grad: Tensor = IMAGE, input: Any = IMAGE, mean: Tensor = CHANNELS, bits: Any = None, act: int = 0
) -> Any:
    bits = torch.empty(0, dtype=torch.uint8) if bits is None else bits
    return BACKWARD(grad, input, None, None, mean, CHANNELS, None, bits, True, 1e-5, act, True, False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forward_op(IMAGE[0]), "input: expected a floating"),
        (lambda: forward_op(IMAGE.int()), "input: expected a floating"),
        (lambda: forward_op(weight=CHANNELS[:2]), "weight: expected a floating"),
        (lambda: forward_op(weight=CHANNELS.int()), "weight: expected a floating"),
        (lambda: forward_op(residual=IMAGE[:1]), "residual: expected the shape"),
        (lambda: forward_op(residual=IMAGE.double()), "residual: expected the shape"),
        (lambda: forward_op(activation=7), "activation: expected 0 to 6"),
        (lambda: OP(IMAGE, *[None] * 4, False, 0.1, 1e-5, None, 0, False), "running_mean, running_var: expected both"),
        (lambda: backward_op(IMAGE[:1]), "grad: expected the shape"),
        (lambda: backward_op(IMAGE.double()), "grad: expected the shape"),
        (lambda: backward_op(mean=CHANNELS[:2]), "mean: expected a floating"),
        (lambda: backward_op(input=None), "input: expected a tensor"),
        (lambda: backward_op(act=1), "bits: expected those of the forward call"),
        (lambda: backward_op(act=1, bits=torch.zeros(3, dtype=torch.uint8)), "bits: expected those"),
        (lambda: backward_op(act=1, bits=torch.zeros(18)), "bits: expected a contiguous uint8"),
    ],
)
def test_the_operations_assert_what_memory_safety_needs(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        call()


IN_PLACE = torch.ops.visionops.fused_batch_norm_in_place_native
IN_PLACE_BACKWARD = torch.ops.visionops.fused_batch_norm_in_place_backward_native


def in_place_op(input: Tensor) -> Any:
    return IN_PLACE(input, None, None, None, None, True, 0.1, 1e-5, None, 0, False)


def in_place_backward_op(var: Tensor = CHANNELS, activation: int = 0) -> Any:
    bits = torch.empty(0, dtype=torch.uint8)
    return IN_PLACE_BACKWARD(IMAGE, IMAGE, None, None, var, bits, True, 1e-5, activation, True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fused_batch_norm_(IMAGE[..., :2], None, None, None, None, True), "input: expected it dense in memory"),
        (lambda: fused_batch_norm_(IMAGE[:1].expand(2, 3, 4, 5), None, None, None, None, True), "input: expected it"),
        (lambda: fused_batch_norm_(IMAGE[0], None, None, None, None, True), "input: expected shape"),
        (lambda: in_place_op(IMAGE[..., :2]), "input: expected a dense one"),
        (lambda: in_place_op(IMAGE.int()), "input: expected a floating"),
        (lambda: in_place_backward_op(CHANNELS[:2]), "var: expected a floating"),
        (lambda: in_place_backward_op(activation=1), "activation: expected one that can be inverted"),
        (lambda: in_place_backward_op(activation=2), "bits: expected those of the forward call"),
    ],
)
def test_the_in_place_form_refuses(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        call()
    assert (IMAGE == 1).all()
