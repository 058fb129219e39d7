// Conversion between the three ways of writing an axis-aligned box.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// The numbers are those of visionops/boxes/box_convert.py.
enum class BoxFormat : int { xyxy, xywh, cxcywh };

/// Converts boxes [begin, end) of (count, 4), contiguous, to out, (count, 4) of Result<dtype>.
using BoxConvert = void(const void* boxes, DType dtype, BoxFormat in_format, BoxFormat out_format, void* out,
                        int64_t begin, int64_t end);
VISIONOPS_KERNEL(BoxConvert, box_convert)

/// The transpose of the same linear map: grad (count, 4) of a floating dtype to grad_boxes (count, 4) of the same.
VISIONOPS_KERNEL(BoxConvert, box_convert_backward)

}  // namespace visionops
