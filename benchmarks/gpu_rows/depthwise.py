"""Depthwise convolutions and depthwise-separable blocks on a GPU, beside cuDNN's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import visionops
from benchmarks.bench_depthwise import BLOCKS
from benchmarks.gpu_rows import GpuRow

# Channels and side of ConvNeXt's maps, whose windows have 7 x 7 taps.
CONVNEXT = ((96, 56), (192, 28), (384, 14), (768, 7))
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def rows(scale: int) -> list[GpuRow]:
    """Both of 32 images, channels last; the number of images is divided by `scale`."""
    batch = max(32 // scale, 1)
    found = []
    for dtype, tolerance in TOLERANCE.items():
        kind = str(dtype).removeprefix("torch.")
        for name, (channels, side, stride, filters) in BLOCKS.items():
            x, w = _image(batch, channels, side, dtype), _normal(channels, 1, 3, 3, dtype=dtype) / 3
            second = _normal(filters, channels, 1, 1, dtype=dtype) / channels**0.5
            inputs = [x, w, _normal(channels, dtype=dtype), second, _normal(filters, dtype=dtype)]
            eager = partial(_eager, stride)
            peers: dict[str, Callable[..., Any]] = {"cuDNN": eager, "torch.compile": torch.compile(eager)}
            found.append(GpuRow(f"DS-{name}-{kind}", partial(_block, stride), peers, inputs, tolerance))
        for channels, side in CONVNEXT:
            inputs = [_image(batch, channels, side, dtype), _normal(channels, 1, 7, 7, dtype=dtype) / 7]
            found.append(GpuRow(f"DW7-{channels}@{side}-{kind}", _depthwise, {"cuDNN": _seven}, inputs, tolerance))
    return found


def _block(stride: int, x: Tensor, first: Tensor, shift: Tensor, second: Tensor, bias: Tensor) -> Tensor:
    return visionops.depthwise_separable_conv2d(
        x,
        first,
        second,
        stride=stride,
        padding=1,
        depthwise_norm=(None, shift),
        depthwise_activation="relu",
        pointwise_norm=(None, bias),
        pointwise_activation="relu",
    )


def _eager(stride: int, x: Tensor, first: Tensor, shift: Tensor, second: Tensor, bias: Tensor) -> Tensor:
    with torch.backends.cudnn.flags(allow_tf32=False):  # as ours
        middle = F.relu_(F.conv2d(x, first, shift, stride, 1, 1, x.shape[1]))
        return F.relu_(F.conv2d(middle, second, bias))


def _depthwise(x: Tensor, weight: Tensor) -> Tensor:
    # Our own kernel, which is not the first on a GPU.
    return visionops.depthwise_conv2d(x, weight, padding=3, backend="triton" if x.is_cuda else None)


def _seven(x: Tensor, weight: Tensor) -> Tensor:
    with torch.backends.cudnn.flags(allow_tf32=False):
        return F.conv2d(x, weight, None, 1, 3, 1, x.shape[1])


def _image(batch: int, channels: int, side: int, dtype: torch.dtype) -> Tensor:
    return _normal(batch, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)


def _normal(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)
