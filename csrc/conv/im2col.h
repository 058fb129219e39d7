// The column matrix of an image, one column per position of a sliding window, and its adjoint.
#pragma once

#include "common/dtype.h"
#include "conv/window.h"

namespace visionops {

struct ColumnsProblem {
  DType dtype;  // floating, of the image and of the columns
  int64_t batch, channels, height, width;
  bool channels_last;  // the image lies in memory as (batch, height, width, channels)
  int64_t out_height, out_width;
  Window window;
};

/// Writes the planes [begin, end) of batch * channels: columns (batch, channels, kernel_h, kernel_w, out_height,
/// out_width), contiguous, from the image. What lies outside the image is 0. Allocates nothing.
using Im2Col = void(const ColumnsProblem& problem, const void* image, void* columns, int64_t begin, int64_t end);
VISIONOPS_KERNEL(Im2Col, im2col)

/// Writes the planes [begin, end) of the image (batch, channels, height, width), contiguous: each pixel the sum of the
/// columns' values that im2col copies from it, in the order of the taps, 16-bit types in float. Allocates nothing.
using Col2Im = void(const ColumnsProblem& problem, const void* columns, void* image, int64_t begin, int64_t end);
VISIONOPS_KERNEL(Col2Im, col2im)

}  // namespace visionops
