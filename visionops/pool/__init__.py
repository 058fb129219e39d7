"""Room `pool`: maxima and averages over windows of images, and their gradients."""

from visionops.pool.avg_pool2d import avg_pool2d, avg_pool2d_backward
from visionops.pool.max_pool2d import max_pool2d, max_pool2d_backward, max_pool2d_with_offsets

__all__ = ["avg_pool2d", "avg_pool2d_backward", "max_pool2d", "max_pool2d_backward", "max_pool2d_with_offsets"]
