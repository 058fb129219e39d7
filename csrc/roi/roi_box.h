// Reading a RoI, on host and device: its image, whether it is one at all, and its level of a pyramid.
#pragma once

#include "roi/roi.h"
#include "roi/roi_axis.h"

namespace visionops::VISIONOPS_ISA {

constexpr const char* kNoSuchImage = "boxes: expected the index of an image, in [0, B), first in each row";

struct RoiBox {
  double image, x1, y1, x2, y2;

  /// A NaN or an infinity anywhere: such a RoI is empty.
  VISIONOPS_HD bool is_finite() const {
    return VISIONOPS_ISA::is_finite(((image - image) + (x1 - x1)) + ((y1 - y1) + (x2 - x2)) + (y2 - y2));
  }

  VISIONOPS_HD bool has_image(int64_t batch) const { return image >= 0 && image < static_cast<double>(batch); }
};

template <class B>
VISIONOPS_HD inline RoiBox load_roi(const B* row) {
  return {to_compute(row[0]), to_compute(row[1]), to_compute(row[2]), to_compute(row[3]), to_compute(row[4])};
}

/// Which of the levels a box is pooled from. Areas are compared in float32, so that every backend decides alike.
VISIONOPS_HD inline int32_t level_of(const RoiBox& box, const RoiProblem& problem) {
  const float width = static_cast<float>(box.x2) - static_cast<float>(box.x1);
  const float height = static_cast<float>(box.y2) - static_cast<float>(box.y1);
  const float area = width * height;
  const double canonical = static_cast<double>(problem.canonical_size) * static_cast<double>(problem.canonical_size);
  int32_t level = 0;
  for (int32_t next = 1; next < problem.level_count; ++next) {
    // An int holds what is within these bounds; beyond them the power is 0 or infinite.
    const double above = static_cast<double>(problem.min_level) + next - static_cast<double>(problem.canonical_level);
    const auto power = static_cast<int>(2 * std::fmin(std::fmax(above, -4096.0), 4096.0));
    if (area >= static_cast<float>(std::ldexp(canonical, power))) level = next;
  }
  return level;
}

}  // namespace visionops::VISIONOPS_ISA
