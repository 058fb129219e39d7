"""Room `suppression`: which of many overlapping boxes stay."""

from visionops.suppression.batched_nms import batched_nms
from visionops.suppression.nms import nms

__all__ = ["batched_nms", "nms"]
