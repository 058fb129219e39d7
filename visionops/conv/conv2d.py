"""Convolution of images, and the form that writes the columns out."""

from __future__ import annotations

import torch
from torch import Tensor

from visionops import _check
from visionops._codes import ACTIVATIONS
from visionops.conv.convolution import CONV2D, autocast, check_weight, preferred
from visionops.conv.im2col import IM2COL
from visionops.conv.window import image, padding_of, positions


@CONV2D.public
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """Convolution of images with a bank of filters, as neural networks have it: without turning the filters.

    out[b, o, y, x] = activation(bias[o] + sum over c, i, j of weight[o, c, i, j] input[b, g C/groups + c,
    y S - P + i D, x S - P + j D]), with g = o // (O / groups) and 0 outside the image.

    The column matrix of `im2col` is never written: panels of it go from the image straight into the matrix product.

    Args:
        input: (B, C, H, W) or (C, H, W) floating, of either layout.
        weight: (O, C / groups, kh, kw) in the input's dtype.
        bias: (O,) or None.
        stride: Pixels between neighbouring windows, S: (height, width), or one integer for both, as all that follow.
        padding: Zeros on each side, P; or "valid" for none, or "same" for a result of the input's size, with stride 1.
        dilation: Pixels between neighbouring taps, D.
        groups: Parts of the channels that do not mix.
        activation: None, "relu", "leaky_relu" (slope 0.01), "relu6", "silu", "hardswish" or "gelu" (by erf).
        backend: "native", "triton" or "aten", torch's own, or None for the faster one here.

    Returns:
        (B, O, H', W') or (O, H', W') in the input's dtype and layout, H' = floor((H + 2P - D (kh - 1) - 1) / S) + 1;
        16-bit types are summed in float32. Differentiable in input, weight and bias: any number of times without
        activation, else once. Under torch.autocast the tensors are cast to its dtype first, as torch's convolution
        does: float64 is not.

    Raises:
        ValueError: a shape does not fit, or the window not into the padded image.
        TypeError: not floating tensors of one dtype on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Chetlur et al., cuDNN, arXiv:1410.0759, section 3 (columns that exist only in cache).

    >>> conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2), torch.tensor([-4.5]), padding=1, activation="relu")
    tensor([[[[0., 0., 0., 0.],
              [0., 0., 0., 0.],
              [0., 0., 0., 0.],
              [0., 0., 0., 0.]]]])
    """
    images = image(input)
    if torch._C._is_any_autocast_enabled():
        images, weight, bias = autocast(images, weight, bias)
    check_weight(images, weight, bias, groups)
    if activation is not None:
        _check.one_of("activation", activation, ACTIVATIONS)
    strides, gaps, kernel = (
        _check.pair("stride", stride, 1),
        _check.pair("dilation", dilation, 1),
        list(weight.shape[2:]),
    )
    sides = padding_of(padding, kernel, strides, gaps)
    positions((images.shape[2], images.shape[3]), kernel, strides, sides, gaps)
    backend = backend or preferred(images, weight, groups, strides)
    out: Tensor = CONV2D(images, weight, bias, strides, sides, gaps, groups, ACTIVATIONS[activation], backend=backend)
    return out if input.ndim == 4 else out[0]


@IM2COL.public
def im2col_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
) -> Tensor:
    """`conv2d` as a product of the weight's matrix and the column matrix, both written out.

    out[b] = W im2col(input[b]) + bias, with W (O, C kh kw), in each group. It takes kh kw times the input's memory:
    to read and to test against, not to use. Under torch.autocast it does as `conv2d`.

    >>> im2col_conv2d(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3))
    tensor([[[[18.]]]])
    """
    images = image(input)
    if torch._C._is_any_autocast_enabled():
        images, weight, bias = autocast(images, weight, bias)
    check_weight(images, weight, bias, groups)
    strides, gaps, kernel = (
        _check.pair("stride", stride, 1),
        _check.pair("dilation", dilation, 1),
        list(weight.shape[2:]),
    )
    sides = padding_of(padding, kernel, strides, gaps)
    height, width = positions((images.shape[2], images.shape[3]), kernel, strides, sides, gaps)
    columns: Tensor = IM2COL(images, kernel, gaps, sides, strides, backend=backend)
    terms = weight.shape[1] * kernel[0] * kernel[1]
    matrix = weight.contiguous().view(groups, weight.shape[0] // groups, terms)
    parts = columns.reshape(images.shape[0], groups, terms, height * width)
    out: Tensor = (matrix @ parts).reshape(images.shape[0], weight.shape[0], height, width)
    if bias is not None:
        out = out + bias[:, None, None]
    return out if input.ndim == 4 else out[0]
