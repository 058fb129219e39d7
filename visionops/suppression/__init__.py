"""Room `suppression`: which of many overlapping boxes stay."""

from visionops.suppression.batched_nms import batched_nms
from visionops.suppression.fast_nms import fast_nms
from visionops.suppression.matrix_nms import mask_matrix_nms, matrix_nms
from visionops.suppression.nms import nms
from visionops.suppression.soft_nms import soft_nms

__all__ = ["batched_nms", "fast_nms", "mask_matrix_nms", "matrix_nms", "nms", "soft_nms"]
