// Boxes clamped to the image; a NaN coordinate stays NaN.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// Clamps boxes [begin, end) of (count, 4) xyxy, contiguous, to [0, width] x [0, height]; out has the boxes' dtype.
using ClipBoxesToImage = void(const void* boxes, DType dtype, double height, double width, void* out, int64_t begin,
                              int64_t end);
VISIONOPS_KERNEL(ClipBoxesToImage, clip_boxes_to_image)

/// grad and boxes (count, 4) of one floating dtype: a gradient passes where the coordinate lies in the closed range.
using ClipBoxesToImageBackward = void(const void* grad, const void* boxes, DType dtype, double height, double width,
                                      void* grad_boxes, int64_t begin, int64_t end);
VISIONOPS_KERNEL(ClipBoxesToImageBackward, clip_boxes_to_image_backward)

}  // namespace visionops
