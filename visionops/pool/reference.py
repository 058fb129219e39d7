"""What the poolings mean, in NumPy and float64: the text that every kernel is tested against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
# inf - inf is a NaN, as it should be.
quiet = np.errstate(invalid="ignore")
Pair = int | Sequence[int]
# A window's place in the result, and its taps inside the image: their numbers, row-major, to their pixels.
Place = tuple[int, int]
Taps = dict[int, Place]


def max_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (..., H, W), and with `return_indices` its place in the flattened H * W."""
    output, offsets = max_pool2d_with_offsets(input, kernel_size, stride, padding, dilation, ceil_mode)
    if not return_indices:
        return output
    indices = np.full(output.shape, -1)
    for (p, q), taps in _windows(input.shape, kernel_size, stride, padding, dilation, ceil_mode):
        for offset, (y, x) in taps.items():
            indices[..., p, q][offsets[..., p, q] == offset] = y * input.shape[-1] + x
    return output, indices


def max_pool2d_with_offsets(
    input: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Float64, Array]:
    """The maximum of each window of (..., H, W), and the number of its tap."""
    kernel = _pair(kernel_size)
    sizes = pooled_sizes(input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    output = np.full((*input.shape[:-2], *sizes), -np.inf)
    offsets = np.zeros(output.shape, np.uint8 if kernel[0] * kernel[1] <= 256 else np.int32)
    for (p, q), taps in _windows(input.shape, kernel_size, stride, padding, dilation, ceil_mode):
        first = next(iter(taps), 0)
        offsets[..., p, q] = first
        for offset, (y, x) in taps.items():
            value = input[..., y, x].astype(np.float64)
            better = (value > output[..., p, q]) | np.isnan(value)
            output[..., p, q][better] = value[better]
            offsets[..., p, q][better] = offset
    return output, offsets


@quiet
def max_pool2d_backward(
    grad_output: Array,
    offsets: Array,
    input_size: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Float64:
    """The gradient of `max_pool2d`: of each window to the tap that its offset names."""
    grad = np.zeros(input_size)
    for (p, q), taps in _windows(input_size, kernel_size, stride, padding, dilation, ceil_mode):
        for offset, (y, x) in taps.items():
            grad[..., y, x] += np.where(offsets[..., p, q] == offset, grad_output[..., p, q].astype(np.float64), 0)
    return grad


@quiet
def avg_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Float64:
    """The sum of each window of (..., H, W) over its divisor."""
    output = np.zeros((*input.shape[:-2], *pooled_sizes(input.shape, kernel_size, stride, padding, 1, ceil_mode)))
    for place, taps in _windows(input.shape, kernel_size, stride, padding, 1, ceil_mode):
        total = sum((input[..., y, x].astype(np.float64) for y, x in taps.values()), np.zeros(input.shape[:-2]))
        output[(..., *place)] = total / (
            divisor_override or _counted(place, taps, input.shape, kernel_size, stride, padding, count_include_pad)
        )
    return output


@quiet
def avg_pool2d_backward(
    grad_output: Array,
    input_size: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Float64:
    """The gradient of `avg_pool2d`: of each window spread equally over its taps."""
    grad = np.zeros(input_size)
    for place, taps in _windows(input_size, kernel_size, stride, padding, 1, ceil_mode):
        divisor = divisor_override or _counted(place, taps, input_size, kernel_size, stride, padding, count_include_pad)
        for y, x in taps.values():
            grad[..., y, x] += grad_output[(..., *place)].astype(np.float64) / divisor
    return grad


def max_unpool2d(
    input: Array,
    indices: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    output_size: Sequence[int] | None = None,
) -> Float64:
    """Each value at the pixel of the flattened image that its index names, if any; of several the last counts."""
    if output_size is None:
        output_size = [
            (count - 1) * step - 2 * pad + kernel
            for count, kernel, step, pad in zip(
                input.shape[-2:], _pair(kernel_size), _pair(stride or kernel_size), _pair(padding), strict=True
            )
        ]
    height, width = output_size[-2:]
    output = np.zeros((*input.shape[:-2], height * width))
    flat = (*input.shape[:-2], -1)
    for plane in np.ndindex(input.shape[:-2]):
        for value, index in zip(input.reshape(flat)[plane], indices.reshape(flat)[plane], strict=True):
            if 0 <= index < height * width:
                output[(*plane, index)] = value
    return output.reshape(*input.shape[:-2], height, width)


@quiet
def adaptive_avg_pool2d(input: Array, output_size: Any) -> Float64:
    """The average of each of so many bins of (..., H, W)."""
    output = np.zeros((*input.shape[:-2], *_adaptive_sizes(input, output_size)))
    for place, rows, columns in _bins(input, output_size):
        output[(..., *place)] = input[..., rows, columns].astype(np.float64).mean((-2, -1))
    return output


def adaptive_max_pool2d(input: Array, output_size: Any, return_indices: bool = False) -> Any:
    """The maximum of each of so many bins of (..., H, W), and on request its place in the flattened H * W."""
    output = np.zeros((*input.shape[:-2], *_adaptive_sizes(input, output_size)))
    indices = np.zeros(output.shape, np.int64)
    for place, rows, columns in _bins(input, output_size):
        # A bin is a window of its own.
        bin_ = input[..., rows, columns]
        largest, offsets = max_pool2d(bin_, bin_.shape[-2:], return_indices=True)
        y, x = np.divmod(offsets[..., 0, 0], bin_.shape[-1])
        output[(..., *place)] = largest[..., 0, 0]
        indices[(..., *place)] = (rows.start + y) * input.shape[-1] + columns.start + x
    return (output, indices) if return_indices else output


def global_avg_pool2d(input: Array) -> Float64:
    """The average of each plane of (..., H, W), as (..., 1, 1)."""
    return adaptive_avg_pool2d(input, 1)


def spatial_pyramid_pool(input: Array, levels: Sequence[int] = (1, 2, 4), *, mode: str = "max") -> Float64:
    """The bins of every level of (..., C, H, W), level by level, channel by channel: (..., C * sum(l * l))."""
    pool = adaptive_max_pool2d if mode == "max" else adaptive_avg_pool2d
    lengths = [input.shape[-3] * level * level for level in levels]
    parts = [pool(input, level).reshape(*input.shape[:-3], n) for level, n in zip(levels, lengths, strict=True)]
    return np.concatenate(parts, axis=-1)


def _adaptive_sizes(input: Array, output_size: Any) -> Place:
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    height, width = (size if out is None else out for size, out in zip(input.shape[-2:], sizes, strict=True))
    return height, width


def _bins(input: Array, output_size: Any) -> Iterator[tuple[Place, slice, slice]]:
    """Places of bins, with their rows and columns."""
    (height, width), (down, across) = input.shape[-2:], _adaptive_sizes(input, output_size)
    for p in range(down):
        for q in range(across):
            rows = slice(p * height // down, -(-(p + 1) * height // down))
            yield (p, q), rows, slice(q * width // across, -(-(q + 1) * width // across))


def pooled_sizes(
    sizes: Sequence[int], kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Place:
    """How many windows there are down and across: all whose first tap is not beyond the image and its left padding.

    Without `ceil_mode` the last tap must also lie inside the image and its padding.
    """
    counts = []
    for size, kernel, step, pad, spread in zip(
        sizes[-2:], _pair(kernel_size), _pair(stride or kernel_size), _pair(padding), _pair(dilation), strict=True
    ):
        last_tap = (kernel - 1) * spread
        count = 0
        while count * step + last_tap < size + 2 * pad or (
            # A window more, if it holds what the others left over and begins inside.
            ceil_mode and count * step + last_tap < size + 2 * pad + step - 1 and count * step < size + pad
        ):
            count += 1
        counts.append(count)
    return counts[0], counts[1]


def _windows(
    sizes: Sequence[int], kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Iterator[tuple[Place, Taps]]:
    (kernel_y, kernel_x), (stride_y, stride_x) = _pair(kernel_size), _pair(stride or kernel_size)
    (padding_y, padding_x), (dilation_y, dilation_x) = _pair(padding), _pair(dilation)
    rows, columns = pooled_sizes(sizes, kernel_size, stride, padding, dilation, ceil_mode)
    for p in range(rows):
        for q in range(columns):
            taps = {}
            for r in range(kernel_y):
                for c in range(kernel_x):
                    y, x = p * stride_y - padding_y + r * dilation_y, q * stride_x - padding_x + c * dilation_x
                    if 0 <= y < sizes[-2] and 0 <= x < sizes[-1]:
                        taps[r * kernel_x + c] = y, x
            yield (p, q), taps


def _counted(
    place: Place,
    taps: Taps,
    sizes: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    count_include_pad: bool,
) -> int:
    """How many taps the divisor of a window counts."""
    if not count_include_pad:
        return len(taps)
    counted = 1
    for at, size, kernel, step, pad in zip(
        place, sizes[-2:], _pair(kernel_size), _pair(stride or kernel_size), _pair(padding), strict=True
    ):
        counted *= min(kernel, size + 2 * pad - at * step)
    return counted


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
