// Indices of the boxes whose sides both reach a length.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// Writes to indices, room for count, those of boxes (count, 4) xyxy, contiguous, with x2 - x1 and y2 - y1 at least
/// min_size (rounded to the type computed in); returns how many. A box with a NaN side is small.
using RemoveSmallBoxes = int64_t(const void* boxes, DType dtype, int64_t count, double min_size, int64_t* indices);
VISIONOPS_KERNEL(RemoveSmallBoxes, remove_small_boxes)

}  // namespace visionops
