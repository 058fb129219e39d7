// Soft non-maximum suppression of segments: each box taken lowers the scores of those it overlaps.
#pragma once

#include <limits>

#include "suppression/segments.h"

namespace visionops {

enum class SoftNmsMethod : int32_t { linear, gaussian };

struct SoftNmsProblem : Candidates {
  SoftNmsMethod method;
  double iou_threshold;  // linear: a score decays by 1 - IoU where IoU exceeds it
  double sigma;          // gaussian: a score decays by exp(-IoU^2 / sigma)
};

namespace VISIONOPS_ISA {

/// What gaussian multiplies the square of an IoU by, in the type that scores decay in: finite, for an infinity would
/// make a NaN of no overlap.
template <class S>
S exponent_per_square(double sigma) {
  constexpr S most = std::numeric_limits<S>::max();
  return 1 / sigma < most ? static_cast<S>(-1 / sigma) : -most;
}

}  // namespace VISIONOPS_ISA

/// Writes the decayed scores of what is left of segments [begin, end), once their images are ranked.
using SoftNmsDecay = void(const SoftNmsProblem& problem, void* workspace, int64_t begin, int64_t end);
VISIONOPS_KERNEL(SoftNmsDecay, soft_nms_decay)

}  // namespace visionops
