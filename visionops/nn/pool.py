"""Modules of the pooling operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import Module

from visionops.pool import avg_pool2d, max_pool2d, max_unpool2d, spatial_pyramid_pool
from visionops.pool.window import Pair


class MaxPool2d(Module):
    """The maximum of each window: `visionops.max_pool2d`, with the arguments of torch.nn.MaxPool2d.

    >>> MaxPool2d(2)(torch.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[3.]]]])
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        """(B, C, H, W) to (B, C, P, Q), with `return_indices` also where the maxima stand."""
        return max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        """What its representation shows."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The average of each window: `visionops.avg_pool2d`, with the arguments of torch.nn.AvgPool2d.

    >>> AvgPool2d(2)(torch.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[1.5000]]]])
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, P, Q)."""
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """What its representation shows."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"ceil_mode={self.ceil_mode}, count_include_pad={self.count_include_pad}"
        )


class MaxUnpool2d(Module):
    """Max pooling undone: `visionops.max_unpool2d`, with the arguments of torch.nn.MaxUnpool2d.

    >>> values, indices = MaxPool2d(2, return_indices=True)(torch.arange(4.0).reshape(1, 1, 2, 2))
    >>> MaxUnpool2d(2)(values, indices)
    tensor([[[[0., 0.],
              [0., 3.]]]])
    """

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(B, C, P, Q) and indices to (B, C, H, W)."""
        return max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        """What its representation shows."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class SpatialPyramidPool(Module):
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
