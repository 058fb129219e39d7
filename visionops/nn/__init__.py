"""Modules over the operations of the rooms."""

from visionops.nn.conv import Conv2d, DepthwiseSeparableConv2d, InvertedResidual, PointwiseConv2d

__all__ = ["Conv2d", "DepthwiseSeparableConv2d", "InvertedResidual", "PointwiseConv2d"]
