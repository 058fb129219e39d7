"""The convolution that does what a convolution and the batch norm after it did."""

from __future__ import annotations

import torch
from torch import Tensor

from visionops import _check
from visionops._op import FLOATING


def fold_batch_norm(
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    bn_weight: Tensor | None,
    bn_bias: Tensor | None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what it and its batch norm in eval mode did.

    With s = bn_weight / sqrt(running_var + eps): weight * s and (bias - running_mean) * s + bn_bias. Computed in
    float64 and rounded once.

    Args:
        weight: (C, ...) floating, an output channel each row: (C, C_in / groups, kh, kw) of a 2-d convolution.
        bias: (C,) floating, or None for 0.
        running_mean: (C,) floating.
        running_var: (C,) floating.
        bn_weight: (C,) floating, or None for 1.
        bn_bias: (C,) floating, or None for 0.
        eps: Added to the variance.

    Returns:
        (C, ...) and (C,), both in the dtype of weight. Differentiable in every tensor.

    Raises:
        ValueError: a shape does not fit.
        TypeError: not floating tensors on one device.

    Source: Jacob et al., arXiv:1712.05877, section 3.2.

    >>> fold_batch_norm(torch.ones(1, 1, 1, 1), None, torch.ones(1), torch.full((1,), 4.0), None, None, eps=0.0)
    (tensor([[[[0.5000]]]]), tensor([-0.5000]))
    """
    _check.is_a("weight", weight, Tensor)
    _check.dtype("weight", weight, FLOATING, "floating")
    if weight.ndim == 0:
        raise ValueError("weight: expected shape (C, ...), got ()")
    _check.is_a("running_mean", running_mean, Tensor)
    _check.is_a("running_var", running_var, Tensor)
    check_channels(
        "weight",
        weight,
        0,
        bias=bias,
        running_mean=running_mean,
        running_var=running_var,
        bn_weight=bn_weight,
        bn_bias=bn_bias,
    )
    _check.number("eps", eps)
    scale = (running_var.double() + eps).rsqrt()
    if bn_weight is not None:
        scale = scale * bn_weight.double()
    shift = -running_mean.double() if bias is None else bias.double() - running_mean.double()
    shift = shift * scale
    if bn_bias is not None:
        shift = shift + bn_bias.double()
    folded = weight.double() * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    # Dense as the weight was: a channels-last one stays so.
    return folded.to(weight.dtype, memory_format=torch.preserve_format), shift.to(weight.dtype)


def check_channels(other_name: str, other: Tensor, dim: int, **channels: Tensor | None) -> None:
    """Raise unless all that are given are floating (C,), C being a dimension of another tensor, and on its device."""
    expected, device = other.shape[dim], other.device
    for name, values in channels.items():
        if values is None:
            continue
        # As in `image` of the convolutions: a function is called only to say what is wrong.
        if not isinstance(values, Tensor):
            _check.is_a(name, values, Tensor)
        if values.shape != (expected,):
            raise ValueError(f"{name}: expected shape (C,) with C={expected}, got {_check.describe(values)}")
        if values.dtype not in FLOATING:
            _check.dtype(name, values, FLOATING, "floating")
        if values.device != device:
            _check.same_device(name, values, other_name, other)
