"""torch.nn.Modules over the operations, in the order of arguments of torch's own."""

from visionops.nn.pool import AvgPool2d, MaxPool2d, MaxUnpool2d, SpatialPyramidPool

__all__ = ["AvgPool2d", "MaxPool2d", "MaxUnpool2d", "SpatialPyramidPool"]
