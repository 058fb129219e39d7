"""Convolution on a GPU beside cuDNN: ResNet-50's layers in Triton, and the columns in CUDA C++ beside torch's."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import visionops
from benchmarks.bench_conv import COLUMNS, RESNET50
from benchmarks.gpu_rows import GpuRow

# A value sums up to 4,608 products; those of bfloat16 are rounded once, at the end.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


def rows(scale: int) -> list[GpuRow]:
    """Each layer and each matrix of columns for one image and for 32; batches are divided by `scale`."""
    found = []
    for images in (1, 32):
        batch = max(1, images // scale)
        for name, layer in RESNET50.items():
            found += [_layer(f"CONV-R50-{name}-N{images}", batch, *layer, dtype) for dtype in TOLERANCE]
        for name, (channels, side) in COLUMNS.items():
            found += _columns(f"{name}-N{images}", batch, channels, side)
    return found


def _layer(
    name: str, batch: int, channels: int, side: int, filters: int, kernel: int, stride: int, dtype: torch.dtype
) -> GpuRow:
    """Channels last, which both like best."""
    x, weight = _normal(batch, channels, side, side), _normal(filters, channels, kernel, kernel)
    inputs = [x, weight / (channels * kernel**2) ** 0.5]
    inputs = [t.to(dtype, memory_format=torch.channels_last) for t in inputs] + [_normal(filters).to(dtype)]
    window = (stride, kernel // 2)
    name += f"-{str(dtype).removeprefix('torch.')}"
    ours, cudnn = partial(_ours, window=window), partial(_cudnn, window=window)
    return GpuRow(name, ours, {"cuDNN": cudnn}, inputs, TOLERANCE[dtype])


def _columns(name: str, batch: int, channels: int, side: int) -> list[GpuRow]:
    columns, size = _normal(batch, channels * 9, side * side), (side, side)
    im2col, unfold = (partial(f, kernel_size=3, padding=1) for f in (visionops.im2col, F.unfold))
    col2im, fold = (partial(f, output_size=size, kernel_size=3, padding=1) for f in (visionops.col2im, F.fold))
    return [
        GpuRow(f"I2C-{name}", im2col, {"torch": unfold}, [_normal(batch, channels, side, side)]),
        GpuRow(f"C2I-{name}", col2im, {"torch": fold}, [columns]),
    ]


def _ours(x: Tensor, weight: Tensor, bias: Tensor, *, window: tuple[int, int]) -> Tensor:
    """Our own kernel: what runs by default on a GPU is cuDNN's."""
    return visionops.conv2d(x, weight, bias, *window, backend="triton" if x.is_cuda else "native")


def _cudnn(x: Tensor, weight: Tensor, bias: Tensor, *, window: tuple[int, int]) -> Tensor:
    """Its best algorithm, in float32 without TF32, which ours does not use either."""
    with torch.backends.cudnn.flags(benchmark=True, allow_tf32=False):
        return F.conv2d(x, weight, bias, *window)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
