"""The operations as torch.nn.Modules, and `convert`, which puts them into an existing network."""

from visionops.nn.conv import DepthwiseSeparableConv2d, InvertedResidual, PointwiseConv2d
from visionops.nn.conv2d import Conv2d
from visionops.nn.convert import Conversion, convert
from visionops.nn.norm import BatchNorm2d, FrozenBatchNorm2d
from visionops.nn.pool import AvgPool2d, MaxPool2d, MaxUnpool2d, SpatialPyramidPool
from visionops.nn.roi import MultiScaleRoIAlign, RoIAlign, RoIPool

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Conversion",
    "DepthwiseSeparableConv2d",
    "FrozenBatchNorm2d",
    "InvertedResidual",
    "MaxPool2d",
    "MaxUnpool2d",
    "MultiScaleRoIAlign",
    "PointwiseConv2d",
    "RoIAlign",
    "RoIPool",
    "SpatialPyramidPool",
    "convert",
]
