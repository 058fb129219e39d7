"""What hypothesis draws for poolings: small images with ties and infinities, and windows of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from visionops.pool.reference import pooled_sizes

SIDES = st.integers(1, 12)


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
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    return {
        "kernel_size": kernel,
        "stride": draw(st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5))),
        "padding": (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2))),
        "ceil_mode": draw(st.booleans()),
    }
