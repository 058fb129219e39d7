"""What convolutions cost and see: counted by hand, and measured by gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from visionops import conv2d, conv_cost, receptive_field


def test_costs_are_those_counted_by_hand() -> None:
    cost = conv_cost((2, 3, 224, 224), 64, 7, 2, 3)
    assert cost.output_size == (112, 112)
    assert cost.parameters == 64 * 3 * 49 + 64
    assert cost.macs == 2 * 64 * 112 * 112 * 3 * 49
    assert cost.bytes == 4 * (2 * 3 * 224 * 224 + cost.parameters + 2 * 64 * 112 * 112)


def test_a_receptive_field_is_where_gradients_arrive() -> None:
    layers = [((3, 5), 2, 1), (3, (1, 2), (2, 1)), (2, 2)]
    x = torch.zeros(1, 1, 41, 61, requires_grad=True)
    out: Tensor = x
    for layer in layers:
        kernel, stride, dilation = (v if isinstance(v, tuple) else (v, v) for v in (*layer, 1)[:3])
        out = conv2d(out, torch.ones(1, 1, *kernel), stride=stride, dilation=dilation)
    out[0, 0, 1, 1].backward()
    assert x.grad is not None
    rows, columns = x.grad[0, 0].nonzero().T
    assert receptive_field(layers) == (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)


@pytest.mark.parametrize(
    ("size", "itemsize", "error", "message"),
    [
        ((1, 3, 8.5, 8), 4, TypeError, "input_size: expected an integer, got float"),
        ((1, 3, -8, 8), 4, ValueError, "input_size: expected 0 or more, got -8"),
        (5, 4, ValueError, r"input_size: expected \(B, C, H, W\), got 5"),
        ((1, 3, 8, 8), -4, ValueError, "itemsize: expected 0 or more, got -4"),
        ((1, 3, 8, 8), "x", TypeError, "itemsize: expected an integer, got str"),
    ],
)
def test_errors_of_sizes(size: Any, itemsize: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        conv_cost(size, 4, 3, padding=9, itemsize=itemsize)


def test_errors_of_layers() -> None:
    with pytest.raises(ValueError, match=r"layers: expected \(kernel_size, stride\) or .*, got 3"):
        receptive_field([3])  # type: ignore[list-item]
