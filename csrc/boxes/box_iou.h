// Intersection over union of two sets of boxes, and its relatives; their arithmetic is in common/box.h.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// `iof` divides by the area of the first box. The numbers are those of visionops/boxes/box_iou.py.
enum class IouMode : int { iou, giou, diou, ciou, iof };

struct BoxIouProblem {
  const void* boxes1;  // (batch, n, 4) xyxy, contiguous
  const void* boxes2;  // (batch, m, 4) xyxy, contiguous; m == n if aligned
  DType dtype;         // of both
  int64_t batch, n, m;
  IouMode mode;
  bool aligned;  // pair i with i: results are (batch, n) instead of (batch, n, m)
  int pixel_offset;
};

/// Work items of the forward pass: tiles of the result, each written by one call.
using BoxIouItems = int64_t(const BoxIouProblem& problem);
VISIONOPS_KERNEL(BoxIouItems, box_iou_items)

/// Writes the items [begin, end) of out, (batch, n, m) or (batch, n) of Result<dtype>. Allocates nothing.
using BoxIou = void(const BoxIouProblem& problem, void* out, int64_t begin, int64_t end);
VISIONOPS_KERNEL(BoxIou, box_iou)

/// Gradient with respect to one side: 1 or 2. Items are blocks of that side's boxes.
using BoxIouBackwardItems = int64_t(const BoxIouProblem& problem, int side);
VISIONOPS_KERNEL(BoxIouBackwardItems, box_iou_backward_items)

/// Writes the items [begin, end) of grad_boxes, (batch, n or m, 4) of dtype (floating). grad has the shape of the
/// forward result, contiguous, of dtype. Sums run in a fixed order, whatever the ranges.
using BoxIouBackward = void(const BoxIouProblem& problem, int side, const void* grad, void* grad_boxes, int64_t begin,
                            int64_t end);
VISIONOPS_KERNEL(BoxIouBackward, box_iou_backward)

}  // namespace visionops
