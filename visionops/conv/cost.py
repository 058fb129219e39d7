"""What a convolution costs, and how far a stack of them sees: arithmetic on sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionops import _check
from visionops.conv.window import padding_of, positions


@dataclass(frozen=True)
class ConvCost:
    """The cost of one call.

    Attributes:
        output_size: (H', W').
        parameters: Of weight and bias.
        macs: Multiplications, each with its addition.
        bytes: Of input, weight, bias and result, each moved once.
    """

    output_size: tuple[int, int]
    parameters: int
    macs: int
    bytes: int


def conv_cost(
    input_size: tuple[int, int, int, int],
    out_channels: int,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    bias: bool = True,
    itemsize: int = 4,
) -> ConvCost:
    """What `conv2d` costs: (C / groups) kh kw MACs for each of O H' W' values of each image.

    A depthwise layer is one with groups = C; a depthwise-separable one costs C k^2 H'W' + C O H'W' MACs, the sum of
    a depthwise and a pointwise layer.

    Args:
        input_size: (B, C, H, W).
        out_channels: O.
        kernel_size: (kh, kw), or one integer for both, as all that follow.
        stride: As in `conv2d`.
        padding: As in `conv2d`.
        dilation: As in `conv2d`.
        groups: As in `conv2d`.
        bias: Whether there is one.
        itemsize: Bytes of a value.

    Returns:
        A ConvCost.

    Raises:
        ValueError: a size is out of range, or the window does not fit into the padded image.
        TypeError: not integers.

    >>> depthwise = conv_cost((1, 32, 112, 112), 32, 3, padding=1, groups=32, bias=False)
    >>> pointwise = conv_cost((1, 32, 112, 112), 64, 1, bias=False)
    >>> depthwise.macs + pointwise.macs == 32 * 9 * 112**2 + 32 * 64 * 112**2
    True
    """
    if not isinstance(input_size, (tuple, list)) or len(input_size) != 4:
        raise ValueError(f"input_size: expected (B, C, H, W), got {input_size!r}")
    for size in input_size:
        _check.count("input_size", size)
    for name, value in (("out_channels", out_channels), ("groups", groups), ("itemsize", itemsize)):
        _check.count(name, value)
    batch, channels, height, width = input_size
    if groups < 1 or channels % groups or out_channels % groups:
        raise ValueError(f"groups: expected a divisor of {channels} and {out_channels} channels, got {groups}")
    kernel, steps, gaps = (
        _check.pair("kernel_size", kernel_size, 1),
        _check.pair("stride", stride, 1),
        _check.pair("dilation", dilation, 1),
    )
    out = positions((height, width), kernel, steps, padding_of(padding, kernel, steps, gaps), gaps)
    weights = out_channels * (channels // groups) * kernel[0] * kernel[1]
    results = batch * out_channels * out[0] * out[1]
    parameters = weights + (out_channels if bias else 0)
    moved = itemsize * (batch * channels * height * width + parameters + results)
    return ConvCost(out, parameters, weights * batch * out[0] * out[1], moved)


def receptive_field(
    layers: Sequence[tuple[int | tuple[int, int], ...]],
) -> tuple[int, int]:
    """How many pixels of the input a result of a stack of windows sees.

    1 + the sum over layers of (k - 1) D times the strides of the layers before.

    Args:
        layers: (kernel_size, stride) or (kernel_size, stride, dilation) of each convolution or pooling, first to last;
            each an integer or (height, width).

    Returns:
        (height, width) in pixels of the input.

    Raises:
        ValueError: a size is out of range, or a layer has another length.
        TypeError: not integers.

    >>> receptive_field([(7, 2), (3, 2), (3, 1), (3, 1)])
    (27, 27)
    """
    field, step = [1, 1], [1, 1]
    for layer in layers:
        if not isinstance(layer, (tuple, list)) or len(layer) not in (2, 3):
            raise ValueError(
                f"layers: expected (kernel_size, stride) or (kernel_size, stride, dilation), got {layer!r}"
            )
        kernel, stride = _check.pair("kernel_size", layer[0], 1), _check.pair("stride", layer[1], 1)
        dilation = _check.pair("dilation", layer[2] if len(layer) == 3 else 1, 1)
        for side in range(2):
            field[side] += (kernel[side] - 1) * dilation[side] * step[side]
            step[side] *= stride[side]
    return field[0], field[1]
