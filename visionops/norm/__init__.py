"""Room `norm`: normalisation over channels, fused with what follows it."""

from visionops.norm.fold_batch_norm import fold_batch_norm
from visionops.norm.fused_batch_norm import fused_batch_norm
from visionops.norm.fused_batch_norm_in_place import fused_batch_norm_

__all__ = [
    "fold_batch_norm",
    "fused_batch_norm",
    "fused_batch_norm_",
]
