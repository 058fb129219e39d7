"""The operations as torch.nn.Modules."""

from visionops.nn.roi import MultiScaleRoIAlign, RoIAlign, RoIPool

__all__ = ["MultiScaleRoIAlign", "RoIAlign", "RoIPool"]
