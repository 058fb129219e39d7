"""Room `roi`: regions of interest pooled from feature maps to a fixed size."""

from visionops.roi.roi_align import roi_align

__all__ = ["roi_align"]
