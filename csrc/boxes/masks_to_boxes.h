// The smallest box around the non-zero pixels of each mask.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// Masks [begin, end) of (count, height, width), contiguous, of any dtype including bool, to boxes, (count, 4)
/// float32: (x_min, y_min, x_max, y_max) of the pixels that are not zero (NaN is not zero), or four zeros if none.
using MasksToBoxes = void(const void* masks, DType dtype, int64_t height, int64_t width, float* boxes, int64_t begin,
                          int64_t end);
VISIONOPS_KERNEL(MasksToBoxes, masks_to_boxes)

}  // namespace visionops
