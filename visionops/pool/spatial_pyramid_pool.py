"""Bins of several sizes as one vector an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionops import _check
from visionops.pool.adaptive_pool2d import ADAPTIVE_MAX_POOL2D, adaptive_avg_pool2d, adaptive_max_pool2d

MODES = {"max": adaptive_max_pool2d, "avg": adaptive_avg_pool2d}


@ADAPTIVE_MAX_POOL2D.public
def spatial_pyramid_pool(
    input: Tensor, levels: Sequence[int] = (1, 2, 4), *, mode: str = "max", backend: str | None = None
) -> Tensor:
    """A vector of one length for images of any size: the maxima, or averages, of their bins at several levels.

    output = adaptive_pool2d(input, l) for each level l, flattened, one after the other

    The pyramid of PSPNet is levels=(1, 2, 3, 6) with mode="avg"; `adaptive_avg_pool2d` gives its maps one by one.

    Args:
        input: (B, C, H, W) or (C, H, W), floating.
        levels: The bins down and across of each level.
        mode: "max" or "avg".
        backend: "native", or None for the first that can run.

    Returns:
        (B, C * sum of l * l) or (C * sum of l * l,) in the input's dtype: level by level, in each channel by channel,
        in each row-major. Differentiable.

    Raises:
        ValueError: a shape, a level or the mode does not fit, or there is no level.
        TypeError: not a floating tensor, or levels that are no integers.
        NotImplementedError: no backend runs here; the message says why.

    Source: He et al., arXiv:1406.4729; Zhao et al., arXiv:1612.01105 (averages).

    >>> spatial_pyramid_pool(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), (1, 2))
    tensor([4., 1., 2., 3., 4.])
    """
    _check.one_of("mode", mode, MODES)
    if not isinstance(levels, (tuple, list)) or not levels:
        raise ValueError(f"levels: expected one or more integers, got {levels!r}")
    for level in levels:
        _check.count("levels", level)
        if level == 0:
            raise ValueError("levels: expected 1 or more, got 0")
    return torch.cat([MODES[mode](input, level, backend=backend).flatten(-3) for level in levels], -1)
