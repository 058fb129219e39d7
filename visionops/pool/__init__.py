"""Room `pool`: maxima and averages over windows and bins of images, and their gradients."""

from visionops.pool.adaptive_pool2d import adaptive_avg_pool2d, adaptive_max_pool2d, global_avg_pool2d
from visionops.pool.avg_pool2d import avg_pool2d, avg_pool2d_backward
from visionops.pool.max_pool2d import max_pool2d, max_pool2d_backward, max_pool2d_with_offsets
from visionops.pool.max_unpool2d import max_unpool2d
from visionops.pool.spatial_pyramid_pool import spatial_pyramid_pool

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "avg_pool2d_backward",
    "global_avg_pool2d",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_offsets",
    "max_unpool2d",
    "spatial_pyramid_pool",
]
