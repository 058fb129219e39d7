"""The operations as torch.nn.Modules, and `convert`, which puts them into an existing network."""

from visionops.nn.convert import Conversion, convert
from visionops.nn.norm import BatchNorm2d, FrozenBatchNorm2d

__all__ = [
    "BatchNorm2d",
    "Conversion",
    "FrozenBatchNorm2d",
    "convert",
]
