"""Rows of the convolutions: columns, ResNet-50's layers; beside torch's own kernels."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import visionops
from benchmarks import roofs
from benchmarks.row import Row, Workload
from benchmarks.turns import Call
from visionops.conv import reference
from visionops.nn import Conv2d
from visionops.testing import compare

# Channels, side, filters, kernel, stride.
RESNET50 = {
    "stem": (3, 224, 64, 7, 2),
    "64@56k3": (64, 56, 64, 3, 1),
    "64-256@56": (64, 56, 256, 1, 1),
    "128@28k3": (128, 28, 128, 3, 1),
    "512-128@28": (512, 28, 128, 1, 1),
    "256@14k3": (256, 14, 256, 3, 1),
    "1024-256@14": (1024, 14, 256, 1, 1),
    "512@7k3": (512, 7, 512, 3, 1),
    "512-2048@7": (512, 7, 2048, 1, 1),
}
COLUMNS = {"64@56": (64, 56), "128@28": (128, 28), "256@14": (256, 14)}


def rows() -> list[Row]:
    """The rows; what is asked, is asked of a family of rows each."""
    rows = []

    def add(family: str, name: str, asked: float, make: Any) -> None:
        rows.append(Row(name, make, {"torch": asked}, family=family))

    for batch in (1, 8):
        for name, shape in COLUMNS.items():
            add(f"I2C-N{batch}", f"I2C-{name}-N{batch}", 2, partial(_columns, batch, *shape))
            add(f"C2I-N{batch}", f"C2I-{name}-N{batch}", 3, partial(_image, batch, *shape))
        forms = {"": (None, 0.98), "-native": ("native", 0.9), "-prepacked": ("prepacked", 1.1)}
        for name, layer in RESNET50.items():
            for suffix, (form, asked) in forms.items():
                family = f"CONV-R50-N{batch}{suffix}"
                add(family, f"CONV-R50-{name}-N{batch}{suffix}", asked, partial(_layer, form, batch, *layer))
            if layer[3] > 1:
                make = partial(_layer, "native", batch, *layer, unfolded=True)
                add(f"CONV-R50-N{batch}-unfold", f"CONV-R50-{name}-N{batch}-unfold", 1.8, make)
    return rows


def _columns(batch: int, channels: int, side: int) -> Workload:
    x = _normal(batch, channels, side, side)

    def gate(result: Tensor) -> str:
        compare(result[:1].double().numpy(), reference.im2col(x[:1].numpy(), 3, 1, 1), "float32")
        return "reference on an image"

    ours = partial(visionops.im2col, x, 3, 1, 1)
    return Workload(ours, {"torch": partial(F.unfold, x, 3, 1, 1)}, gate, roofs.writes(9 * x.nbytes))


def _image(batch: int, channels: int, side: int) -> Workload:
    columns = _normal(batch, channels * 9, side * side)
    window = ((side, side), 3, 1, 1)

    def gate(result: Tensor) -> str:
        compare(result[:1].double().numpy(), reference.col2im(columns[:1].numpy(), *window), "float32", 9)
        return "reference on an image"

    return Workload(partial(visionops.col2im, columns, *window), {"torch": partial(F.fold, columns, *window)}, gate)


def _layer(
    form: str | None, batch: int, channels: int, side: int, filters: int, kernel: int, stride: int,
    *, unfolded: bool = False,
) -> Workload:  # fmt: skip
    """A layer by the backend named, or as a module that was prepacked."""
    x, bias = _normal(batch, channels, side, side), _normal(filters)
    weight = _normal(filters, channels, kernel, kernel) / (channels * kernel**2) ** 0.5
    window = (stride, kernel // 2)

    def gate(result: Tensor) -> str:
        some = [0, filters // 2, filters - 1]
        expected = reference.conv2d(x[:1].numpy(), weight[some].numpy(), bias[some].numpy(), *window)
        compare(result[:1, some].double().numpy(), expected, "float32", channels * kernel**2)
        return "reference on three channels of an image"

    peer: Call = partial(_unfolded if unfolded else F.conv2d, x, weight, bias, *window)
    ours: Call = partial(visionops.conv2d, x, weight, bias, *window, backend=form)
    if form == "prepacked":
        ours = partial(_prepacked(weight, bias, *window), x)
    macs = visionops.conv_cost((batch, channels, side, side), filters, kernel, *window).macs
    return Workload(ours, {"torch": peer}, gate, roofs.multiplies(macs))


def _prepacked(weight: Tensor, bias: Tensor, stride: int, padding: int) -> Conv2d:
    filters, channels, kernel, _ = weight.shape
    module = Conv2d(channels, filters, kernel, stride, padding).requires_grad_(False).eval()
    module.load_state_dict({"weight": weight, "bias": bias})
    module.prepack()
    return module


def _unfolded(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Convolution as the notes have it: the columns, then a matrix product."""
    columns = F.unfold(x, weight.shape[2:], 1, padding, stride)
    side = (x.shape[2] + 2 * padding - weight.shape[2]) // stride + 1
    product: Tensor = weight.flatten(1) @ columns + bias[:, None]
    return product.reshape(*product.shape[:2], side, side)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
