"""Depthwise and pointwise convolution, and both as one operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._backend import NATIVE, TRITON
from visionops._codes import ACTIVATIONS
from visionops._layout import empty_image
from visionops._op import Op, needs_autograd
from visionops.conv.conv2d import conv2d
from visionops.conv.convolution import CONV2D, autocast, check_weight, preferred
from visionops.conv.window import image, padding_of, positions

Norm = tuple[Tensor | None, Tensor]


def _fake(
    input: Tensor,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    pointwise_weight: Tensor,
    pointwise_bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    depthwise_activation: int,
    pointwise_activation: int,
) -> Tensor:
    size, kernel = (input.shape[2], input.shape[3]), list(depthwise_weight.shape[2:])
    height, width = positions(size, kernel, list(stride), list(padding), list(dilation))
    return empty_image(input, pointwise_weight.shape[0], height, width)


# For inference alone: whoever wants a gradient gets the two convolutions, whose middle has to be kept.
DEPTHWISE_SEPARABLE_CONV2D = Op("depthwise_separable_conv2d", fake=_fake, backends=(NATIVE, TRITON))


@CONV2D.public
def depthwise_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    *,
    activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """Convolution of each channel with filters of its own: `conv2d` with as many groups as channels.

    out[b, c m + n, y, x] = activation(bias[c m + n] + sum over i, j of weight[c m + n, 0, i, j] input[b, c,
    y S - P + i D, x S - P + j D]), for n < m, the channel multiplier.

    Args:
        input: (B, C, H, W) or (C, H, W) floating, of either layout.
        weight: (C m, 1, kh, kw) in the input's dtype.
        bias: (C m,) or None.
        stride: As in `conv2d`, as all that follow.
        padding: Zeros on each side, "valid" or "same".
        dilation: Pixels between neighbouring taps.
        activation: A name or None.
        backend: "native", "triton" or "aten", torch's own, or None for the faster one here.

    Returns:
        (B, C m, H', W') or (C m, H', W') as `conv2d`, differentiable as it is.

    Raises:
        ValueError: a shape does not fit.
        TypeError: not floating tensors of one dtype on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Howard et al., MobileNets, arXiv:1704.04861.

    >>> depthwise_conv2d(torch.ones(1, 2, 2, 2), torch.tensor([1.0, 2]).reshape(2, 1, 1, 1))[0, :, 0, 0]
    tensor([1., 2.])
    """
    channels = image(input).shape[1]
    _check.is_a("weight", weight, Tensor)
    if weight.ndim != 4 or weight.shape[1] != 1 or channels == 0 or weight.shape[0] % channels:
        raise ValueError(f"weight: expected shape (C m, 1, kh, kw) with C={channels}, got {_check.describe(weight)}")
    return conv2d(input, weight, bias, stride, padding, dilation, channels, activation=activation, backend=backend)


@CONV2D.public
def pointwise_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """A linear map of the channels of every pixel: `conv2d` with a window of one pixel.

    Args:
        input: (B, C, H, W) or (C, H, W) floating, of either layout.
        weight: (O, C, 1, 1) in the input's dtype.
        bias: (O,) or None.
        activation: A name or None, as in `conv2d`.
        backend: "native", "triton" or "aten", torch's own, or None for the faster one here.

    Returns:
        (B, O, H, W) or (O, H, W) as `conv2d`, differentiable as it is.

    Raises:
        ValueError: a shape does not fit.
        TypeError: not floating tensors of one dtype on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Lin, Chen and Yan, Network In Network, arXiv:1312.4400.

    >>> pointwise_conv2d(torch.ones(1, 3, 1, 1), torch.ones(2, 3, 1, 1)).flatten()
    tensor([3., 3.])
    """
    _check_pointwise("weight", weight)
    return conv2d(input, weight, bias, activation=activation, backend=backend)


@DEPTHWISE_SEPARABLE_CONV2D.public
def depthwise_separable_conv2d(
    input: Tensor,
    depthwise_weight: Tensor,
    pointwise_weight: Tensor,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    depthwise_norm: Norm | None = None,
    depthwise_activation: str | None = None,
    pointwise_norm: Norm | None = None,
    pointwise_activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """A depthwise and a pointwise convolution, each with norm and activation, as one operation.

    middle = depthwise_activation(scale1 * depthwise_conv2d(input) + shift1),
    out = pointwise_activation(scale2 * pointwise_conv2d(middle) + shift2).

    The middle is never written: its values are computed as the pointwise product takes them, in cache. Where a
    gradient is asked for, the two convolutions run one after the other, as for bfloat16 on the CPU unless a backend is
    named.

    Args:
        input: (B, C, H, W) or (C, H, W) floating, of either layout.
        depthwise_weight: (C, 1, kh, kw) in the input's dtype.
        pointwise_weight: (O, C, 1, 1) in the input's dtype.
        stride: Of the depthwise convolution, as in `conv2d`, as the two that follow.
        padding: Zeros on each side, "valid" or "same".
        dilation: Pixels between neighbouring taps.
        depthwise_norm: (scale, shift), each (C,) in the input's dtype: a folded batch norm; or None. A scale of None
            is 1, so that a bias is (None, bias).
        depthwise_activation: A name or None, as in `conv2d`.
        pointwise_norm: (scale, shift), each (O,); or None.
        pointwise_activation: A name or None.
        backend: "native", "triton", or None for the first that can run.

    Returns:
        (B, O, H', W') or (O, H', W') in the input's dtype and layout. Differentiable in every tensor, any number of
        times without activations, else once. Under torch.autocast as `conv2d`, the norms too.

    Raises:
        ValueError: a shape does not fit.
        TypeError: not floating tensors of one dtype on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Howard et al., MobileNets, arXiv:1704.04861.

    >>> scale, shift = torch.tensor([0.5, 1]), torch.tensor([0.0, -10])
    >>> middle = {"depthwise_norm": (scale, shift), "depthwise_activation": "relu"}
    >>> depthwise_separable_conv2d(torch.ones(1, 2, 3, 3), torch.ones(2, 1, 3, 3), torch.ones(1, 2, 1, 1), **middle)
    tensor([[[[4.5000]]]])
    """
    images = image(input)
    if torch._C._is_any_autocast_enabled():
        images, depthwise_weight, pointwise_weight, depthwise_norm, pointwise_norm = autocast(
            images, depthwise_weight, pointwise_weight, depthwise_norm, pointwise_norm
        )
    channels = images.shape[1]
    _check.is_a("depthwise_weight", depthwise_weight, Tensor)
    if depthwise_weight.ndim != 4 or tuple(depthwise_weight.shape[:2]) != (channels, 1) or channels == 0:
        described = _check.describe(depthwise_weight)
        raise ValueError(f"depthwise_weight: expected shape (C, 1, kh, kw) with C={channels}, got {described}")
    _check_pointwise("pointwise_weight", pointwise_weight)
    check_weight(images, pointwise_weight, None, 1, name="pointwise_weight")
    check_weight(images, depthwise_weight, None, channels, name="depthwise_weight")
    _check.one_of("depthwise_activation", depthwise_activation, ACTIVATIONS)
    _check.one_of("pointwise_activation", pointwise_activation, ACTIVATIONS)
    steps, gaps, kernel = (
        _check.pair("stride", stride, 1),
        _check.pair("dilation", dilation, 1),
        list(depthwise_weight.shape[2:]),
    )
    sides = padding_of(padding, kernel, steps, gaps)
    positions((images.shape[2], images.shape[3]), kernel, steps, sides, gaps)
    first = _folded("depthwise_norm", depthwise_weight, depthwise_norm)
    second = _folded("pointwise_norm", pointwise_weight, pointwise_norm)
    codes = ACTIVATIONS[depthwise_activation], ACTIVATIONS[pointwise_activation]
    # Torch multiplies bfloat16 as it is, which wins against keeping the middle in cache.
    narrow = backend is None and images.is_cpu and images.dtype == torch.bfloat16
    if narrow or needs_autograd((images, *first, *second)):
        backends = backend or preferred(images, first[0], channels, steps), backend or preferred(images, second[0], 1)
        middle = CONV2D(images, *first, steps, sides, gaps, channels, codes[0], backend=backends[0])
        out: Tensor = CONV2D(middle, *second, [1, 1], [0, 0, 0, 0], [1, 1], 1, codes[1], backend=backends[1])
    else:
        out = DEPTHWISE_SEPARABLE_CONV2D(images, *first, *second, steps, sides, gaps, *codes, backend=backend)
    return out if input.ndim == 4 else out[0]


def _check_pointwise(name: str, weight: Any) -> None:
    _check.is_a(name, weight, Tensor)
    if weight.ndim != 4 or tuple(weight.shape[2:]) != (1, 1):
        raise ValueError(f"{name}: expected shape (O, C, 1, 1), got {_check.describe(weight)}")


def _folded(name: str, weight: Tensor, norm: Any) -> tuple[Tensor, Tensor | None]:
    """The weight and the bias of a convolution that does what it and its norm did."""
    if norm is None:
        return weight, None
    if not isinstance(norm, (tuple, list)) or len(norm) != 2:
        raise TypeError(f"{name}: expected None or (scale, shift), got {type(norm).__name__}")
    scale, shift = norm
    for part, value in (("scale", scale), ("shift", shift)):
        if part == "scale" and value is None:
            continue
        _check.is_a(f"{name} {part}", value, Tensor)
        if value.shape != weight.shape[:1]:
            raise ValueError(f"{name} {part}: expected shape {tuple(weight.shape[:1])}, got {_check.describe(value)}")
        _check.dtype(f"{name} {part}", value, (weight.dtype,), f"{weight.dtype} as input")
        _check.same_device(f"{name} {part}", value, "input", weight)
    return weight if scale is None else weight * scale[:, None, None, None], shift
