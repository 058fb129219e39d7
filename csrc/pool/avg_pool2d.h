// The average of each window, and its gradient.
#pragma once

#include "pool/pool_shape.h"

namespace visionops {

/// What the sum of a window is divided by.
struct PoolDivisor {
  int64_t fixed;        // this, or if 0 the taps counted:
  bool counts_padding;  // those in the image and its padding, or those in the image
};

namespace VISIONOPS_ISA {

/// The taps of window `o` that the divisor counts along an axis; dilation is 1.
VISIONOPS_HD inline int64_t pool_counted(const PoolAxis& axis, const PoolDivisor& divisor, int64_t o) {
  const PoolTaps taps(axis, o);
  if (!divisor.counts_padding) return taps.end - taps.begin;
  const int64_t room = axis.in + 2 * axis.padding - o * axis.stride;
  return axis.kernel < room ? axis.kernel : room;
}

/// What the sum of window (p, q) is divided by.
VISIONOPS_HD inline int64_t pool_divisor(const PoolShape& shape, const PoolDivisor& divisor, int64_t p, int64_t q) {
  if (divisor.fixed != 0) return divisor.fixed;
  return pool_counted(shape.y, divisor, p) * pool_counted(shape.x, divisor, q);
}

}  // namespace VISIONOPS_ISA

using AvgPool2dWork = PoolWork(const PoolShape& shape);
VISIONOPS_KERNEL(AvgPool2dWork, avg_pool2d_work)

/// Writes the items [begin, end) of output. The order of a sum depends on the shape alone, whatever the ranges.
using AvgPool2d = void(const PoolShape& shape, const PoolDivisor& divisor, const void* input, void* output,
                       void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(AvgPool2d, avg_pool2d)

using AvgPool2dBackwardWork = PoolWork(const PoolShape& shape);
VISIONOPS_KERNEL(AvgPool2dBackwardWork, avg_pool2d_backward_work)

/// Writes the items [begin, end) of grad_input, every element of them; grad has the shape of the result.
using AvgPool2dBackward = void(const PoolShape& shape, const PoolDivisor& divisor, const void* grad, void* grad_input,
                               void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(AvgPool2dBackward, avg_pool2d_backward)

}  // namespace visionops
