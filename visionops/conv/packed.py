"""A convolution prepared for inference: arguments checked once, 3 x 3 filters transformed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops._codes import ACTIVATIONS
from visionops._layout import empty_image
from visionops._op import NATIVE, Op, needs_autograd
from visionops.conv.convolution import CONV2D, preferred
from visionops.conv.window import padding_of, positions, steps

# As in csrc/conv/winograd.h: a block of so many channels fits into the scratch.
_MOST_CHANNELS = 512


def _fake_winograd(
    input: Tensor, filters: Tensor, bias: Tensor | None, out_channels: int, padding: Sequence[int], activation: int
) -> Tensor:
    height, width = positions((input.shape[2], input.shape[3]), [3, 3], [1, 1], list(padding), [1, 1])
    return empty_image(input, out_channels, height, width)


CONV2D_WINOGRAD = Op("conv2d_winograd", fake=_fake_winograd)


class PackedConv2d:
    """`visionops.conv2d` with a weight that does not change, without gradient.

    Filters of 3 x 3 with stride 1, float32, on the CPU, are transformed. Of each 4 x 4 tile of the image, the 2 x 2
    results that it holds are A' (sum over channels of (G w G') * (B' tile B)) A, * by element: 16 multiplications where
    the sum over taps has 36. What is not finite stays within the windows that meet it, but an infinity may become NaN.

    Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308, F(2 x 2, 3 x 3).
    """

    def __init__(
        self, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int, activation: str | None
    ) -> None:
        """The arguments of `conv2d`, but for the input and the bias."""
        self.weight, self.writes, self.dtype = weight, _writes(weight), weight.dtype
        self.groups, self.activation = groups, ACTIVATIONS[activation]
        self.stride, self.dilation = steps("stride", stride), steps("dilation", dilation)
        kernel = list(weight.shape[2:])
        self.padding = padding_of(padding, kernel, self.stride, self.dilation)
        self.channels = weight.shape[1] * groups
        self.least_height, self.least_width = (
            self.dilation[side] * (kernel[side] - 1) + 1 - self.padding[2 * side] - self.padding[2 * side + 1]
            for side in range(2)
        )
        self.backend = preferred(weight, weight, groups)
        self.filters = self._transformed() if kernel == [3, 3] else None

    def __call__(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """The result for a batch of images; None where `conv2d` has to do it: with a gradient, or say what is wrong.

        Raises:
            RuntimeError: this is not the weight that was packed, or it was written since.
        """
        if weight is not self.weight or _writes(weight) != self.writes:
            raise RuntimeError("weight: changed after prepack(), call it again, or unpack()")
        if input.dtype is not self.dtype or weight.dtype is not self.dtype or not input.is_cpu or input.ndim != 4:
            return None
        _, channels, height, width = input.shape
        if channels != self.channels or height < self.least_height or width < self.least_width:
            return None
        if needs_autograd((input, weight, bias)):
            return None
        out: Tensor
        if self.filters is None:
            window = self.stride, self.padding, self.dilation, self.groups
            out = CONV2D(input, weight, bias, *window, self.activation, backend=self.backend)
        else:
            out = CONV2D_WINOGRAD(input, self.filters, bias, weight.shape[0], self.padding, self.activation)
        return out

    def _transformed(self) -> Tensor | None:
        """The filters, if there is a kernel for them."""
        suits = self.stride == [1, 1] and self.dilation == [1, 1] and self.groups == 1
        if not suits or not 0 < self.channels <= _MOST_CHANNELS or self.dtype != torch.float32:
            return None
        if NATIVE.why_not(CONV2D_WINOGRAD, self.weight.device.type, self.dtype) is not None:
            return None
        filters: Tensor = torch.ops.visionops.winograd_filters_native(self.weight.detach())
        return filters


def _writes(weight: Tensor) -> int:
    """How often it was written; what was made in inference mode does not count that."""
    return 0 if weight.is_inference() else weight._version
