// Greedy and fast non-maximum suppression of segments; the decision's arithmetic is in common/box.h.
#pragma once

#include "suppression/segments.h"

namespace visionops {

struct NmsProblem : Candidates {
  double iou_threshold;  // rounded to the type that the boxes compute in
  bool fast;             // boxes that are suppressed suppress others too
};

/// Decides which boxes of segments [begin, end) stay, once their images are ranked.
using NmsSuppress = void(const NmsProblem& problem, void* workspace, int64_t begin, int64_t end);
VISIONOPS_KERNEL(NmsSuppress, nms_suppress)

}  // namespace visionops
