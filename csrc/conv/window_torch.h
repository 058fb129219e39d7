// The geometry of a convolution's arguments, checked for what memory safety needs.
#pragma once

#include <vector>

#include "common/stable_torch.h"
#include "conv/window.h"

namespace visionops {

// Sizes and steps beyond it are no image's, and below it their products stay within 64 bits.
constexpr int64_t kLargest = (int64_t{1} << 31) - 1;

using Ints = std::vector<int64_t>;

inline bool within(const Ints& values, size_t count, int64_t least) {
  for (const int64_t value : values) {
    if (value < least || value > kLargest) return false;
  }
  return values.size() == count;
}

/// padding is (top, bottom, left, right), the others (height, width). At the bottom and on the right it may be
/// negative: pixels that no window reads.
inline Window window_of(const Ints& kernel, const Ints& stride, const Ints& padding, const Ints& dilation) {
  check(within(kernel, 2, 1), "kernel_size: expected two sizes, 1 or more");
  check(within(stride, 2, 1), "stride: expected two steps, 1 or more");
  check(within(padding, 4, -kLargest) && padding[0] >= 0 && padding[2] >= 0,
        "padding: expected four sizes, the first and third 0 or more");
  check(within(dilation, 2, 1), "dilation: expected two steps, 1 or more");
  return {kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[2], dilation[0], dilation[1]};
}

/// How many positions a window has along one side.
inline int64_t positions(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t stride,
                         int64_t dilation) {
  const int64_t reach = dilation * (kernel - 1) + 1;
  const int64_t padded = size + before + after;
  check(padded >= reach, "kernel_size: expected to fit into the padded image");
  return (padded - reach) / stride + 1;
}

}  // namespace visionops
