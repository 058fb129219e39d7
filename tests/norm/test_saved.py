"""How much the norms keep between forward and backward: no more than torch, and of a frozen one a bit an element."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from saved_bytes import saved_bytes
from visionops import fused_batch_norm, fused_batch_norm_
from visionops.norm.cases import ACTIVATIONS


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_saves_no_more_than_torch(
    activation: str | None, with_residual: bool, affine: bool, training: bool, dtype: torch.dtype
) -> None:
    x, residual = (torch.randn(4, 16, 28, 28).to(dtype).requires_grad_() for _ in range(2))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    parameters = [torch.nn.Parameter(torch.ones(16, dtype=wide)) for _ in range(2)] if affine else [None, None]
    estimates = torch.zeros(16, dtype=wide), torch.ones(16, dtype=wide)
    function: Any = (lambda x: x) if activation is None else getattr(F, activation)

    def eager() -> Tensor:
        before = F.batch_norm(x, *estimates, *parameters, training)
        return function(before + residual if with_residual else before)  # type: ignore[no-any-return]

    def fused() -> Tensor:
        options: dict[str, Any] = {"residual": residual if with_residual else None, "activation": activation}
        return fused_batch_norm(x, *parameters, *estimates, training, **options)

    ours, theirs = saved_bytes(fused), saved_bytes(eager)
    print(f"{activation}, residual {with_residual}, affine {affine}: {ours} bytes saved, torch {theirs}")
    assert ours <= theirs
    bits = x.numel() // 8 if activation in ("relu", "leaky_relu", "relu6") else 0
    images = 1 + (with_residual and activation in ("silu", "hardswish", "gelu"))
    assert ours <= images * x.nbytes + bits + 16 * 8 * 2


def test_a_frozen_norm_saves_a_bit_an_element() -> None:
    x = torch.randn(4, 16, 28, 28).requires_grad_()
    statistics = torch.zeros(16), torch.ones(16)
    saved = saved_bytes(lambda: fused_batch_norm(x, None, None, *statistics, activation="relu"))
    assert saved <= x.numel() / 8 + 16 * 4 * 2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_in_place_saves_what_the_next_layer_keeps(activation: str | None) -> None:
    x = torch.randn(4, 16, 28, 28).requires_grad_()
    outputs: list[Tensor] = []

    def call() -> Tensor:
        outputs.append(fused_batch_norm_(x * 1, None, None, None, None, True, activation=activation))
        return outputs[0]

    saved = saved_bytes(call)
    out = outputs[0].untyped_storage().nbytes()
    if activation in (None, "leaky_relu"):
        assert saved - out <= x.numel() / 8 + 16 * 4
    else:
        assert saved >= x.nbytes
