"""Modules of the pooling operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from visionops.pool import avg_pool2d, max_pool2d, max_unpool2d, spatial_pyramid_pool


class MaxPool2d(nn.MaxPool2d):
    """The maximum of each window: torch.nn.MaxPool2d by `visionops.max_pool2d`.

    Integers, which that does not take, are torch's own.

    >>> MaxPool2d(2)(torch.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[3.]]]])
    """

    def forward(self, input: Tensor) -> Any:
        """(B, C, H, W) to (B, C, P, Q), with `return_indices` also where the maxima stand."""
        if not input.is_floating_point():
            return super().forward(input)
        return max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class AvgPool2d(nn.AvgPool2d):
    """The average of each window: torch.nn.AvgPool2d by `visionops.avg_pool2d`; integers, as there, are torch's own.

    >>> AvgPool2d(2)(torch.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[1.5000]]]])
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, P, Q)."""
        if not input.is_floating_point():
            return super().forward(input)
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class MaxUnpool2d(nn.MaxUnpool2d):
    """Max pooling undone: torch.nn.MaxUnpool2d by `visionops.max_unpool2d`.

    >>> values, indices = MaxPool2d(2, return_indices=True)(torch.arange(4.0).reshape(1, 1, 2, 2))
    >>> MaxUnpool2d(2)(values, indices)
    tensor([[[[0., 0.],
              [0., 3.]]]])
    """

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(B, C, P, Q) and indices to (B, C, H, W)."""
        return max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class SpatialPyramidPool(nn.Module):
    """Bins of several sizes as one vector an image: `visionops.spatial_pyramid_pool`.

    >>> SpatialPyramidPool((1, 2))(torch.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[3., 0., 1., 2., 3.]])
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 4), mode: str = "max") -> None:
        super().__init__()
        self.levels, self.mode = tuple(levels), mode

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C * sum of l * l)."""
        return spatial_pyramid_pool(input, self.levels, mode=self.mode)

    def extra_repr(self) -> str:
        """What its representation shows."""
        return f"levels={self.levels}, mode={self.mode!r}"
