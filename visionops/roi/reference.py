"""What pooling regions of interest means, in NumPy and float64: the text that every kernel is tested against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Size = int | tuple[int, int]


def roi_align(
    input: Array,
    boxes: Array,
    output_size: Size,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    mode: str = "avg",
) -> Float64:
    """Mean or maximum of bilinear samples in each bin of each RoI: (K, C, height, width).

    `boxes` is (K, 5): index of the image, x1, y1, x2, y2. Pass bfloat16 maps and boxes as float32 arrays.
    """
    height, width = _pair(output_size)
    out = np.zeros((len(boxes), input.shape[1], height, width))
    reduce = {"avg": _mean, "max": _maximum}[mode]
    for k, box in enumerate(boxes.astype(np.float64)):
        if not np.isfinite(box).all():
            continue
        image = input[int(box[0])].astype(np.float64)
        rows = align_samples(box[2], box[4], spatial_scale, aligned, height, sampling_ratio, input.shape[2])
        columns = align_samples(box[1], box[3], spatial_scale, aligned, width, sampling_ratio, input.shape[3])
        for p, of_row in enumerate(rows):
            for q, of_column in enumerate(columns):
                out[k, :, p, q] = reduce(image, *of_row, *of_column)
    return out


def align_samples(
    low: float, high: float, scale: float, aligned: bool, bins: int, sampling_ratio: int, size: int
) -> list[tuple[Float64, int]]:
    """Of each bin along one axis: how each sample on the map weighs its pixels, (samples, size), and all samples.

    A sample between two pixels reads both by its distance; one up to a pixel outside reads the border's; one further
    out is on no map. Where the extent is not positive, an adaptive grid has no samples.
    """
    offset = 0.5 if aligned else 0.0
    start = low * scale - offset
    extent = high * scale - offset - start
    if not aligned:
        extent = max(extent, 1.0)
    none = (np.zeros((0, size)), 0)
    if not (math.isfinite(start) and math.isfinite(extent)):
        return [none] * bins
    bin_size = extent / bins
    grid = sampling_ratio if sampling_ratio > 0 else max(math.ceil(bin_size), 0)
    # Of so many samples one weighs less than float64 can tell, and so do all that fit on a map.
    if grid == 0 or size == 0 or grid > 2**50:
        return [none] * bins
    return [(_weights(start, bin_size, p, grid, size), grid) for p in range(bins)]


def _weights(start: float, bin_size: float, bin_index: int, grid: int, size: int) -> Float64:
    numbers = np.arange(grid, dtype=np.float64) if grid < 10**6 else _near(start, bin_size, bin_index, grid, size)
    position = start + bin_index * bin_size + (numbers + 0.5) * bin_size / grid
    position = position[(position >= -1) & (position <= size)].clip(0, size - 1)
    low = np.floor(position).astype(np.int64)
    fraction = position - low
    weights = np.zeros((len(position), size))
    each = np.arange(len(position))
    weights[each, low] = 1 - fraction
    inside = low < size - 1
    weights[each[inside], low[inside] + 1] = fraction[inside]
    return weights


def _near(start: float, bin_size: float, bin_index: int, grid: int, size: int) -> Float64:
    """The numbers of the samples of a huge grid that may lie on the map, and some around them."""
    ends = (np.array([-1.0, size]) - start - bin_index * bin_size) / (bin_size / grid)
    return np.arange(max(math.floor(ends[0]) - 9, 0), min(math.ceil(ends[1]) + 9, grid), dtype=np.float64)


def _mean(image: Float64, rows: Float64, row_grid: int, columns: Float64, column_grid: int) -> Float64:
    """Per channel: the sum over samples on the map, divided by all."""
    y, x = rows.sum(axis=0), columns.sum(axis=0)
    # Only what a sample weighs is read: 0 times infinity would be NaN.
    touched = image[:, y != 0][:, :, x != 0]
    with np.errstate(invalid="ignore"):
        total = (touched * np.outer(y[y != 0], x[x != 0])).sum(axis=(1, 2))
    return total / max(row_grid * column_grid, 1)  # type: ignore[no-any-return]


def _maximum(image: Float64, rows: Float64, row_grid: int, columns: Float64, column_grid: int) -> Float64:
    """Per channel: the greatest sample, those on no map being 0; NaN if any is; 0 if there are none."""
    values = [np.zeros(len(image))] if len(rows) * len(columns) < max(row_grid * column_grid, 1) else []
    values += [_mean(image, y[None], 1, x[None], 1) for y in rows for x in columns]
    return np.max(values, axis=0)  # type: ignore[no-any-return]


def multiscale_roi_align(
    inputs: list[Array],
    boxes: Array,
    output_size: Size,
    spatial_scales: list[float],
    sampling_ratio: int = 2,
    aligned: bool = True,
    *,
    canonical_size: int = 224,
    canonical_level: int = 4,
    min_level: int = 2,
) -> Float64:
    """roi_align of each box from the map of its level, the one of equation 1 of arXiv:1612.03144 as far as there is."""
    height, width = _pair(output_size)
    out = np.zeros((len(boxes), inputs[0].shape[1], height, width))
    for k, box in enumerate(boxes):
        level = _level(box[1:].astype(np.float32), len(inputs), canonical_size, canonical_level, min_level)
        scale = spatial_scales[level]
        out[k] = roi_align(inputs[level], boxes[k : k + 1], output_size, scale, sampling_ratio, aligned)[0]
    return out


def _level(box: npt.NDArray[np.float32], levels: int, canonical_size: int, canonical_level: int, min_level: int) -> int:
    """The largest whose least area the box has, in float32; a NaN has none."""
    with np.errstate(over="ignore", invalid="ignore"):
        area = (box[2] - box[0]) * (box[3] - box[1])
    least = [canonical_size**2 * 4.0 ** (min_level + level - canonical_level) for level in range(levels)]
    return max([0, *(level for level in range(levels) if area >= np.float32(least[level]))])


def roi_pool(input: Array, boxes: Array, output_size: Size, spatial_scale: float = 1.0) -> Float64:
    """Maximum of the pixels of each bin of each RoI: (K, C, height, width). A NaN is the greatest, no pixel is 0."""
    return _pooled(input, boxes, output_size, spatial_scale)[0]


def roi_pool_argmax(input: Array, boxes: Array, output_size: Size, spatial_scale: float = 1.0) -> npt.NDArray[np.int64]:
    """Number of the first greatest pixel of each bin in its plane, row by row: y * width + x; -1 for no pixel."""
    return _pooled(input, boxes, output_size, spatial_scale)[1]


def _pooled(
    input: Array, boxes: Array, output_size: Size, spatial_scale: float
) -> tuple[Float64, npt.NDArray[np.int64]]:
    height, width = _pair(output_size)
    out = np.zeros((len(boxes), input.shape[1], height, width))
    argmax = np.full(out.shape, -1)
    for k, box in enumerate(boxes.astype(np.float64)):
        if not np.isfinite(box).all():
            continue
        image = input[int(box[0])].astype(np.float64)
        rows = pool_edges(box[2], box[4], spatial_scale, height, input.shape[2])
        columns = pool_edges(box[1], box[3], spatial_scale, width, input.shape[3])
        for p, (top, bottom) in enumerate(rows):
            for q, (left, right) in enumerate(columns):
                pixels = image[:, top:bottom, left:right]
                if pixels.shape[1] * pixels.shape[2] > 0:
                    out[k, :, p, q] = pixels.max(axis=(1, 2))
                    y, x = np.divmod([np.argmax(of_channel) for of_channel in pixels], right - left)
                    argmax[k, :, p, q] = (top + y) * input.shape[3] + left + x
    return out, argmax


def pool_edges(low: float, high: float, scale: float, bins: int, size: int) -> list[tuple[int, int]]:
    """The pixels [begin, end) of each bin along one axis, as far as they lie on the map; all in whole numbers."""
    if not (math.isfinite(low * scale) and math.isfinite(high * scale)):
        return [(0, 0)] * bins
    start, end = _rounded(low * scale), _rounded(high * scale)
    extent = max(end - start + 1, 1)
    edges = [(start + p * extent // bins, start - (-(p + 1) * extent // bins)) for p in range(bins)]
    return [(min(max(begin, 0), size), min(max(end, 0), size)) for begin, end in edges]


def _rounded(value: float) -> int:
    """The nearest whole number, halves away from zero."""
    value = float(value)
    whole = math.floor(abs(value))
    return int(math.copysign(1, value)) * (whole + (abs(value) - whole >= 0.5))


def _pair(size: Size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
