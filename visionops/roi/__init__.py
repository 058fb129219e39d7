"""Room `roi`: regions of interest pooled from feature maps to a fixed size."""

from visionops.roi.multiscale_roi_align import multiscale_roi_align
from visionops.roi.roi_align import roi_align
from visionops.roi.roi_pool import roi_pool

__all__ = ["multiscale_roi_align", "roi_align", "roi_pool"]
