"""MobileNetV2 (arXiv:1801.04381) twice, with one state_dict: on `visionops.nn`, and layer by layer of torch."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from visionops.nn import BatchNorm2d, Conv2d, InvertedResidual, PointwiseConv2d
from visionops.norm import fold_batch_norm

# Expansion, channels, blocks, stride of the first.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class PlainPointwise(nn.Module):
    """`visionops.nn.PointwiseConv2d` as people write it."""

    def __init__(self, inputs: int, outputs: int, *, activation: str | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = nn.ReLU6(inplace=True) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        return self.activation(self.norm(self.conv(x)))  # type: ignore[no-any-return]


class PlainSeparable(nn.Module):
    """`visionops.nn.DepthwiseSeparableConv2d` as people write it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(inputs)
        self.activation = nn.ReLU6(inplace=True)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H', W')."""
        middle = self.activation(self.depthwise_norm(self.depthwise(x)))
        return self.pointwise_norm(self.pointwise(middle))  # type: ignore[no-any-return]


class PlainResidual(nn.Module):
    """`visionops.nn.InvertedResidual` as people write it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expand = PlainPointwise(inputs, middle, activation="relu6") if expansion != 1 else nn.Identity()
        self.separable = PlainSeparable(middle, outputs, stride)
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H', W')."""
        out = self.separable(self.expand(x))
        return x + out if self.adds else out  # type: ignore[no-any-return]


class MobileNetV2(nn.Module):
    """The network of width 1, on this library's modules or torch's alone."""

    def __init__(self, *, plain: bool, classes: int = 1000) -> None:
        super().__init__()
        pointwise: Any = PlainPointwise if plain else PointwiseConv2d
        block: Any = PlainResidual if plain else InvertedResidual
        self.stem: nn.Conv2d = (nn.Conv2d if plain else Conv2d)(3, 32, 3, 2, 1, bias=False)
        self.stem_norm: Any = nn.BatchNorm2d(32) if plain else BatchNorm2d(32, activation="relu6")
        self.stem_activation = nn.ReLU6(inplace=True) if plain else nn.Identity()
        blocks, inputs = [], 32
        for expansion, outputs, count, stride in BLOCKS:
            for i in range(count):
                blocks.append(block(inputs, outputs, 1 if i else stride, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = pointwise(inputs, 1280, activation="relu6")
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, classes)."""
        x = self.stem_activation(self.stem_norm(self.stem(x)))
        x = self.last(self.blocks(x))
        return self.classifier(x.mean((2, 3)))  # type: ignore[no-any-return]

    def prepack(self) -> None:
        """Fold all norms, in eval mode and for good."""
        norm, plain = self.stem_norm, self.stem
        estimates = norm.running_mean, norm.running_var
        weight, bias = fold_batch_norm(plain.weight, None, *estimates, norm.weight, norm.bias, norm.eps)
        self.stem = Conv2d(3, 32, 3, 2, 1, activation="relu6", dtype=weight.dtype)
        self.stem.load_state_dict({"weight": weight, "bias": bias})
        self.stem_norm = nn.Identity()
        for part in (*self.blocks, self.last):
            part.prepack()
