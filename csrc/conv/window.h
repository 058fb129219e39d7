// The geometry of a kernel that slides over an image: which pixel each of its taps meets.
#pragma once

#include <cstdint>

#include "common/target.h"

namespace visionops {

/// Tap (i, j) of the window at output (y, x) meets the pixel (y stride_h - pad_h + i dilation_h, likewise in x).
struct Window {
  int64_t kernel_h, kernel_w;
  int64_t stride_h, stride_w;
  int64_t pad_h, pad_w;  // above and on the left; below and on the right they follow from the output's size
  int64_t dilation_h, dilation_w;
};

namespace VISIONOPS_ISA {

/// The outputs [begin, end) out of `count` whose pixel output * stride + offset lies in [0, size).
struct InBounds {
  int64_t begin, end;
};

static inline InBounds in_bounds(int64_t count, int64_t stride, int64_t offset, int64_t size) {
  int64_t begin = offset >= 0 ? 0 : (stride - 1 - offset) / stride;
  int64_t end = size > offset ? (size - offset + stride - 1) / stride : 0;
  if (end > count) end = count;
  if (begin > end) begin = end;
  return {begin, end};
}

}  // namespace VISIONOPS_ISA
}  // namespace visionops
