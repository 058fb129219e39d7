"""What the convolutions mean, in NumPy and float64: the text that every kernel is tested against."""

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.norm.reference import ACTIVATIONS

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Size = int | tuple[int, int]


def im2col(input: Array, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Float64:
    """Patches of (B, C, H, W) under a sliding window as (B, C kh kw, L): rows by channel and tap, columns by window."""
    kernel, pad = _pair(kernel_size), _pair(padding)
    padded = _padded(input, (pad[0], pad[0], pad[1], pad[1]))
    taps = [patch for _, _, patch in _taps(padded, kernel, _pair(stride), _pair(dilation))]
    batch, channels = input.shape[:2]
    windows = taps[0].shape[2] * taps[0].shape[3]
    return np.stack(taps, axis=2).reshape(batch, channels * kernel[0] * kernel[1], windows)


def col2im(
    input: Array, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Float64:
    """The adjoint of im2col: (B, C kh kw, L) added up where each value was copied from, (B, C, H, W)."""
    height, width = _pair(output_size)
    kernel, (pad_h, pad_w) = _pair(kernel_size), _pair(padding)
    channels = input.shape[1] // (kernel[0] * kernel[1])
    padded = np.zeros((len(input), channels, height + 2 * pad_h, width + 2 * pad_w))
    rows = input.astype(np.float64).reshape(len(input), channels, *kernel, input.shape[2])
    for i, j, patch in _taps(padded, kernel, _pair(stride), _pair(dilation)):
        patch += rows[:, :, i, j].reshape(patch.shape)
    return padded[:, :, pad_h : pad_h + height, pad_w : pad_w + width]


def channel_shuffle(input: Array, groups: int) -> Float64:
    """Channels of groups dealt out in turn: those of the first channel of each group, then of the second."""
    each = input.shape[1] // groups
    order = [group * each + i for i in range(each) for group in range(groups)]
    return input.astype(np.float64)[:, order]


def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
) -> Float64:
    """Convolution of (B, C, H, W) with (O, C / groups, kh, kw), tap by tap."""
    kernel = (weight.shape[2], weight.shape[3])
    padded = _padded(input, _sides(padding, kernel, _pair(dilation)))
    filters = weight.astype(np.float64).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    out: Any = 0
    for i, j, patch in _taps(padded, kernel, _pair(stride), _pair(dilation)):
        parts = patch.reshape(len(input), groups, weight.shape[1], *patch.shape[2:])
        with np.errstate(invalid="ignore"):  # inf - inf
            out = out + np.einsum("goc,bgcyx->bgoyx", filters[..., i, j], parts)
    out = out.reshape(len(input), weight.shape[0], *out.shape[3:])
    if bias is not None:
        out = out + bias.astype(np.float64)[:, None, None]
    return ACTIVATIONS[activation][0](out)


def im2col_conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Float64:
    """The same as conv2d."""
    return conv2d(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Float64:
    """The adjoint of conv2d in its image: each pixel of (B, C, H, W) adds the filters (C, O / groups, kh, kw)."""
    kernel, steps, gaps = (weight.shape[2], weight.shape[3]), _pair(stride), _pair(dilation)
    pad, extra = _pair(padding), _pair(output_padding)
    whole = [(input.shape[2 + d] - 1) * steps[d] + gaps[d] * (kernel[d] - 1) + 1 for d in (0, 1)]
    out = np.zeros((len(input), weight.shape[1] * groups, whole[0] + extra[0], whole[1] + extra[1]))
    parts = input.astype(np.float64).reshape(len(input), groups, input.shape[1] // groups, *input.shape[2:])
    filters = weight.astype(np.float64).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    under = out[:, :, : whole[0], : whole[1]]
    for i, j, patch in _taps(under, kernel, steps, gaps):
        patch += np.einsum("gco,bgcyx->bgoyx", filters[..., i, j], parts).reshape(patch.shape)
    out = out[:, :, pad[0] : whole[0] + extra[0] - pad[0], pad[1] : whole[1] + extra[1] - pad[1]]
    return out if bias is None else out + bias.astype(np.float64)[:, None, None]


def depthwise_conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    *,
    activation: str | None = None,
) -> Float64:
    """conv2d with a group for each channel."""
    return conv2d(input, weight, bias, stride, padding, dilation, input.shape[1], activation=activation)


def pointwise_conv2d(
    input: Array, weight: Array, bias: Array | None = None, *, activation: str | None = None
) -> Float64:
    """conv2d with a window of one pixel."""
    return conv2d(input, weight, bias, activation=activation)


def depthwise_separable_conv2d(
    input: Array,
    depthwise_weight: Array,
    pointwise_weight: Array,
    *,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    depthwise_norm: tuple[Array, Array] | None = None,
    depthwise_activation: str | None = None,
    pointwise_norm: tuple[Array, Array] | None = None,
    pointwise_activation: str | None = None,
) -> Float64:
    """Depthwise convolution, scale and shift of each channel, activation; the same with a pointwise one."""
    middle = depthwise_conv2d(input, depthwise_weight, None, stride, padding, dilation)
    middle = ACTIVATIONS[depthwise_activation][0](_normed(middle, depthwise_norm))
    return ACTIVATIONS[pointwise_activation][0](_normed(pointwise_conv2d(middle, pointwise_weight), pointwise_norm))


def _normed(x: Float64, norm: tuple[Array, Array] | None) -> Float64:
    if norm is None:
        return x
    scale, shift = (part.astype(np.float64)[:, None, None] for part in norm)
    return np.asarray(x * scale + shift)


def _sides(padding: Size | str, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right)."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        total = [dilation[d] * (kernel[d] - 1) for d in (0, 1)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    assert not isinstance(padding, str)
    height, width = _pair(padding)
    return (height, height, width, width)


def _pair(value: Size) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _padded(input: Array, padding: tuple[int, int, int, int]) -> Float64:
    """(B, C, H, W) with zeros above, below, left and right."""
    top, bottom, left, right = padding
    return np.pad(input.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))


def _taps(
    padded: Float64, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> list[tuple[int, int, Float64]]:
    """Of each tap (i, j) of the window the pixels it meets, (B, C, H', W'): views of the padded image."""
    height, width = ((padded.shape[2 + d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in (0, 1))
    return [
        (
            i,
            j,
            padded[
                :,
                :,
                i * dilation[0] : i * dilation[0] + (height - 1) * stride[0] + 1 : stride[0],
                j * dilation[1] : j * dilation[1] + (width - 1) * stride[1] + 1 : stride[1],
            ],
        )
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
