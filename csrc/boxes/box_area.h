// Areas of boxes: 0 if inverted.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// Areas of boxes [begin, end) of (count, 4) xyxy, contiguous, to out, (count) of Result<dtype>.
using BoxArea = void(const void* boxes, DType dtype, int pixel_offset, void* out, int64_t begin, int64_t end);
VISIONOPS_KERNEL(BoxArea, box_area)

/// grad (count) and boxes (count, 4) of one floating dtype, to grad_boxes (count, 4) of the same.
using BoxAreaBackward = void(const void* grad, const void* boxes, DType dtype, int pixel_offset, void* grad_boxes,
                             int64_t begin, int64_t end);
VISIONOPS_KERNEL(BoxAreaBackward, box_area_backward)

}  // namespace visionops
