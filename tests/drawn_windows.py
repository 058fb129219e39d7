"""What tests of poolings share: backends, layouts, and what hypothesis draws, images and windows of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from visionops.pool.max_pool2d import MAX_POOL2D
from visionops.pool.reference import pooled_sizes

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# Those of every pooling that run on the CPU: the kernels for it, and those for a GPU emulated.
BACKENDS = [b.name for b in MAX_POOL2D.backends if b.why_not(MAX_POOL2D, "cpu", torch.float32) is None]
SIDES = st.integers(1, 12)
# Some windows have more than the 256 taps that a byte counts.
TAPS = st.integers(1, 7) | st.integers(1, 7) | st.integers(15, 18)


def in_layout(image: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """An image, its elements laid out in one of the two ways."""
    return image.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@st.composite
def images(draw: Any, finite: bool = False) -> Any:
    """(B, C, H, W) float64 of few different values, wild ones among them unless finite."""
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 3), SIDES, SIDES))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = rng.integers(-3, 4, size=shape).astype(np.float64)
    if not finite:
        kinds = rng.integers(draw(st.sampled_from([3, 12, 40])), size=shape)
        for kind, value in enumerate((np.nan, -np.inf, -0.0)):
            values[kinds == kind] = value
    return values


@st.composite
def max_windows(draw: Any, dilation: bool = True) -> dict[str, Any]:
    """The keywords of a window of `max_pool2d`."""
    window = _window(draw)
    if dilation:
        window["dilation"] = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return window


@st.composite
def avg_windows(draw: Any) -> dict[str, Any]:
    """The keywords of a window of `avg_pool2d`."""
    options = {
        "count_include_pad": draw(st.booleans()),
        "divisor_override": draw(st.sampled_from([None, None, 1, 7, -2])),
    }
    return _window(draw) | options


def sizes_fit(shape: Sequence[int], window: dict[str, Any]) -> None:
    """Discard a draw in which no window fits."""
    sizes = pooled_sizes(
        shape, window["kernel_size"], window["stride"], window["padding"], window.get("dilation", 1),
        window["ceil_mode"],
    )  # fmt: skip
    assume(min(sizes) > 0)


def _window(draw: Any) -> dict[str, Any]:
    kernel = draw(st.tuples(TAPS, TAPS))
    return {
        "kernel_size": kernel,
        "stride": draw(st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5))),
        "padding": (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2))),
        "ceil_mode": draw(st.booleans()),
    }
