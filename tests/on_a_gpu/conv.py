"""Columns in CUDA C++, convolutions in Triton and by cuDNN, the fused block in Triton."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from on_a_gpu import GpuCall
from visionops import col2im, conv2d, conv_transpose2d, depthwise_separable_conv2d, im2col


def calls() -> list[GpuCall]:
    """Dense convolutions in float64; the block, whose Triton kernel multiplies in narrower types, in three."""
    found = [GpuCall("convolutions", convolution_inputs, partial(convolved, ("triton", "aten")), 1e-12, by_native)]
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float16, 5e-2), (torch.bfloat16, 5e-2)):
        found.append(GpuCall(f"separable-{dtype}".replace("torch.", ""), partial(block, dtype), separable, tolerance))
    return found


def convolution_inputs(seed: int = 0) -> list[Tensor]:
    """An image, filters and columns."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, 6, 19, 33), (40, 6, 3, 3), (2, 54, 19 * 33)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def convolved(backends: tuple[str, ...], image: Tensor, filters: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """Columns and back, convolution and its adjoint by each backend."""
    return (
        im2col(image, 3, padding=1),
        col2im(columns, image.shape[2:], 3, padding=1),
        *(conv2d(image, filters, padding=1, activation="relu", backend=backend) for backend in backends),
        *(conv_transpose2d(image, filters.transpose(0, 1), stride=2, backend=backend) for backend in backends),
    )


by_native = partial(convolved, ("native", "native"))


def block(dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """An image, channels last, and the weights and shifts of a depthwise-separable block over it."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 70, 15, 13), (70, 1, 3, 3), (70,), (150, 70, 1, 1), (150,))
    image, *rest = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    rest[2] = rest[2] / 70**0.5
    return [image.to(memory_format=torch.channels_last), *rest]


def separable(x: Tensor, first: Tensor, shift: Tensor, second: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """The block with both shifts, as one operation."""
    norms = {"depthwise_norm": (None, shift), "pointwise_norm": (None, bias)}
    return (
        depthwise_separable_conv2d(x, first, second, stride=2, padding=1, depthwise_activation="relu6", **norms),  # type: ignore[arg-type]
    )
