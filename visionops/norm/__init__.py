"""Room `norm`: normalisation over channels, fused with what follows it."""

from visionops.norm.fused_batch_norm import fused_batch_norm

__all__ = [
    "fused_batch_norm",
]
