"""A convolution prepared for inference: arguments checked once, 3 x 3 filters transformed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._backend import NATIVE
from visionops._codes import ACTIVATIONS
from visionops._layout import empty_image
from visionops._op import Op, needs_autograd
from visionops.conv.convolution import preferred
from visionops.conv.window import padding_of, positions

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

    def __init__(self, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
        """The arguments of `conv2d`, but for the input, the bias and the activation."""
        self._arguments = weight, stride, padding, dilation, groups
        self._weight, self._writes, self._dtype = weight, _writes(weight), weight.dtype
        kernel, strides, gaps = (
            list(weight.shape[2:]),
            _check.pair("stride", stride, 1),
            _check.pair("dilation", dilation, 1),
        )
        around = padding_of(padding, kernel, strides, gaps)
        self._channels = weight.shape[1] * groups
        self._least_height, self._least_width = (
            gaps[side] * (kernel[side] - 1) + 1 - around[2 * side] - around[2 * side + 1] for side in range(2)
        )
        self.filters = _transformed(weight) if (kernel, strides, gaps, groups) == ([3, 3], [1, 1], [1, 1], 1) else None
        self._rest: tuple[Any, ...] = strides, around, gaps, groups
        is_depthwise = groups == weight.shape[0] > 1 == weight.shape[1]
        backend = preferred(weight, weight, groups) or "native"
        if self.filters is not None:
            self._rest = weight.shape[0], around
            backend = "winograd_native"
        # Whether a gradient is asked for is known before: it needs no Op to choose.
        # For a depthwise one the faster backend depends on the image.
        is_known = _runs_here(weight) and not is_depthwise
        self._operation = getattr(torch.ops.visionops, f"conv2d_{backend}").default if is_known else None

    def __call__(self, input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor | None:
        """The result for a batch of images; None where `conv2d` has to do it: with a gradient, or say what is wrong.

        Raises:
            RuntimeError: this is not the weight that was packed, or it was written since.
        """
        if self.is_stale(weight):
            raise RuntimeError("weight: changed after prepack(), call it again, or unpack()")
        if input.dtype is not self._dtype or weight.dtype is not self._dtype or not input.is_cpu or input.ndim != 4:
            return None
        _, channels, height, width = input.shape
        if channels != self._channels or height < self._least_height or width < self._least_width:
            return None
        if self._operation is None or torch.is_autocast_enabled("cpu") or needs_autograd((input, weight, bias)):
            return None
        filters = weight if self.filters is None else self.filters
        out: Tensor = self._operation(input, filters, bias, *self._rest, ACTIVATIONS[activation])
        return out

    def is_stale(self, weight: Tensor) -> bool:
        """Whether this is not the weight that was packed, or it was written since."""
        return weight is not self._weight or _writes(weight) != self._writes

    def of(self, weight: Tensor) -> PackedConv2d:
        """The same with another weight."""
        return PackedConv2d(weight, *self._arguments[1:])

    def __reduce__(self) -> Any:
        # A copy has a weight of its own, and may run on another machine.
        return PackedConv2d, self._arguments


def _runs_here(weight: Tensor) -> bool:
    return NATIVE.why_not(CONV2D_WINOGRAD, weight.device.type, weight.dtype) is None


def _transformed(weight: Tensor) -> Tensor | None:
    """The filters of 3 x 3, if there is a kernel for them."""
    if not _runs_here(weight) or weight.dtype != torch.float32 or not 0 < weight.shape[1] <= _MOST_CHANNELS:
        return None
    filters: Tensor = torch.ops.visionops.winograd_filters_native(weight.detach())
    return filters


def _writes(weight: Tensor) -> int:
    """How often it was written; what was made in inference mode does not count that."""
    return 0 if weight.is_inference() else weight._version
