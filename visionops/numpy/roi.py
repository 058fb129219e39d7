"""Room `roi` on NumPy arrays; what each operation means stands in visionops.roi."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionops import _check
from visionops.numpy import _kernels
from visionops.numpy._arrays import FLOATING, boxes_of, contiguous

Array = NDArray[Any]


def roi_align(
    input: Array,
    boxes: Array | Sequence[Array],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    mode: str = "avg",
) -> Array:
    """Regions of interest, (K, 5) or (K_i, 4) per image, pooled from (B, C, H, W) to (K, C, height, width).

    As `visionops.roi_align`. A view of (B, H, W, C), as `images.transpose(0, 3, 1, 2)`, is not copied, and the result
    is such a view as well.

    >>> ramp = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_align(ramp, [np.array([[0.0, 0, 4, 4]])], 2, aligned=True)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    _check.is_a("input", input, np.ndarray)
    _check.ndim("input", input, 4, "(B, C, H, W)")
    input = input.astype(input.dtype.newbyteorder("="), copy=False)
    _check.dtype("input", input, FLOATING, "floating")
    rois = _rois_of(boxes, input)
    height, width = _check.pair("output_size", output_size, 1)
    _check.number("spatial_scale", spatial_scale)
    _check.integer("sampling_ratio", sampling_ratio)
    _check.one_of("mode", mode, ("avg", "max"))
    last = input.transpose(0, 2, 3, 1)
    channels_last = last.flags.c_contiguous and not input.flags.c_contiguous
    image = contiguous(last if channels_last else input)
    options = (height, width, float(spatial_scale), sampling_ratio, bool(aligned), mode == "max", channels_last)
    out = _kernels.roi_align(image, rois, *options)
    return out.transpose(0, 3, 1, 2) if channels_last else out


def _rois_of(boxes: Any, input: Array) -> Array:
    """Boxes as contiguous (K, 5) floating rows (index of the image, x1, y1, x2, y2)."""
    if not isinstance(boxes, (tuple, list)):
        rois = boxes_of("boxes", boxes, "(K, 5) or a list of (K, 4)", columns=5, ndim=2)
    else:
        if len(boxes) != len(input):
            raise ValueError(f"boxes: expected one array per image, B={len(input)}, got {len(boxes)}")
        of_images = [boxes_of(f"boxes[{i}]", b, "(K, 4)", ndim=2) for i, b in enumerate(boxes)]
        # float16 does not hold every index of an image.
        rows = [
            np.insert(b.astype(np.promote_types(b.dtype, np.float32)), 0, i, axis=1) for i, b in enumerate(of_images)
        ]
        rois = np.concatenate(rows) if rows else np.empty((0, 5), np.float32)
    return contiguous(rois if rois.dtype in FLOATING else rois.astype(np.promote_types(rois.dtype, np.float32)))
