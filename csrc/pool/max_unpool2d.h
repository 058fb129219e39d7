// Values that go to the pixels that indices name, and values taken from there.
#pragma once

#include "pool/pool_shape.h"

namespace visionops {

/// Values and indices (outer, windows, inner), images (outer, pixels, inner), dense, as PoolShape.
struct UnpoolShape {
  int64_t outer, inner, windows, pixels;
  DType dtype;
};

using MaxUnpool2dWork = PoolWork(const UnpoolShape& shape);
VISIONOPS_KERNEL(MaxUnpool2dWork, max_unpool2d_work)

/// Writes the items [begin, end) of images, every element of them: what no index names is 0. Of values with one index
/// the last counts, or with `adds` their sum, in order. An index outside the image goes nowhere.
using MaxUnpool2d = void(const UnpoolShape& shape, const void* values, const int64_t* indices, bool adds, void* images,
                         void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(MaxUnpool2d, max_unpool2d)

/// Writes the windows [begin, end), of outer * windows, of values: the element of images that the index names, or 0
/// outside.
using MaxUnpool2dTaken = void(const UnpoolShape& shape, const void* images, const int64_t* indices, void* values,
                              int64_t begin, int64_t end);
VISIONOPS_KERNEL(MaxUnpool2dTaken, max_unpool2d_taken)

}  // namespace visionops
