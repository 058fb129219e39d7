// Averages and maxima of bins that divide an image, and the gradient of the averages.
//
// The gradient of the maxima is max_unpool2d of their indices, added up.
#pragma once

#include "pool/pool_shape.h"

namespace visionops {

/// Bin `o` is the pixels [floor(o * in / out), ceil((o + 1) * in / out)): bins that meet may share one.
struct AdaptiveAxis {
  int64_t in, out;  // each less than 2^31
};

/// Images (outer, y.in, x.in, inner) to (outer, y.out, x.out, inner), dense, as PoolShape.
struct AdaptiveShape {
  int64_t outer, inner;
  AdaptiveAxis y, x;
  DType dtype;
};

namespace VISIONOPS_ISA {

/// One bin of a whole plane, whose pixels lie one beside the other.
VISIONOPS_HD inline bool is_plane(const AdaptiveShape& shape) {
  return shape.inner == 1 && shape.y.out == 1 && shape.x.out == 1;
}

struct AdaptiveBin {
  int64_t begin, end;  // pixels, at least one

  VISIONOPS_HD AdaptiveBin(const AdaptiveAxis& axis, int64_t o)
      : begin(o * axis.in / axis.out), end(pool_ceil_div((o + 1) * axis.in, axis.out)) {}
};

/// The bins [begin, end) that hold pixel `i`.
struct AdaptiveBins {
  int64_t begin, end;

  VISIONOPS_HD AdaptiveBins(const AdaptiveAxis& axis, int64_t i)
      : begin(i * axis.out / axis.in), end(pool_ceil_div((i + 1) * axis.out, axis.in)) {}
};

}  // namespace VISIONOPS_ISA

using AdaptivePool2dWork = PoolWork(const AdaptiveShape& shape);
VISIONOPS_KERNEL(AdaptivePool2dWork, adaptive_pool2d_work)

/// Writes the items [begin, end) of output. The order of a sum depends on the shape alone, whatever the ranges.
using AdaptiveAvgPool2d = void(const AdaptiveShape& shape, const void* input, void* output, void* scratch,
                               int64_t begin, int64_t end);
VISIONOPS_KERNEL(AdaptiveAvgPool2d, adaptive_avg_pool2d)

/// Writes the items [begin, end) of output and of indices, y * x.in + x of the maxima: of equal ones the first, of NaNs
/// the last.
using AdaptiveMaxPool2d = void(const AdaptiveShape& shape, const void* input, void* output, int64_t* indices,
                               void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(AdaptiveMaxPool2d, adaptive_max_pool2d)

using AdaptiveAvgPool2dBackwardWork = PoolWork(const AdaptiveShape& shape);
VISIONOPS_KERNEL(AdaptiveAvgPool2dBackwardWork, adaptive_avg_pool2d_backward_work)

/// Writes the items [begin, end) of grad_input, every element of them; grad has the shape of the result.
using AdaptiveAvgPool2dBackward = void(const AdaptiveShape& shape, const void* grad, void* grad_input, void* scratch,
                                       int64_t begin, int64_t end);
VISIONOPS_KERNEL(AdaptiveAvgPool2dBackward, adaptive_avg_pool2d_backward)

}  // namespace visionops
