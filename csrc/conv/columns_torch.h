// A call of im2col or col2im as its backends share it: checked for what memory safety needs, and its schemas.
#pragma once

#include <string>

#include "common/stable_torch.h"
#include "conv/im2col.h"
#include "conv/window_torch.h"

namespace visionops {

/// The schema of the backend whose torch operation has this name.
inline std::string im2col_schema(const std::string& name) {
  return name + "(Tensor input, int[] kernel_size, int[] dilation, int[] padding, int[] stride) -> Tensor";
}

inline std::string col2im_schema(const std::string& name) {
  return name +
         "(Tensor input, SymInt[] output_size, int[] kernel_size, int[] dilation, int[] padding, int[] stride) -> "
         "Tensor";
}

inline ColumnsProblem columns_problem(DType dtype, int64_t batch, int64_t channels, int64_t height, int64_t width,
                                      const Ints& kernel, const Ints& dilation, const Ints& padding,
                                      const Ints& stride) {
  check(is_floating(dtype), "input: expected a floating dtype");
  check(within({height, width}, 2, 0), "output_size: expected two sizes, 0 or more");
  const Window window = window_of(kernel, stride, padding, dilation);
  return {dtype,
          batch,
          channels,
          height,
          width,
          false,
          positions(height, padding[0], padding[1], kernel[0], stride[0], dilation[0]),
          positions(width, padding[2], padding[3], kernel[1], stride[1], dilation[1]),
          window};
}

/// The problem that makes columns of an image.
inline ColumnsProblem im2col_problem(const Tensor& image, const Ints& kernel, const Ints& dilation, const Ints& padding,
                                     const Ints& stride) {
  check(image.dim() == 4, "input: expected shape (B, C, H, W)");
  return columns_problem(dtype_of(image), image.size(0), image.size(1), image.size(2), image.size(3), kernel, dilation,
                         padding, stride);
}

/// The problem whose columns these are.
inline ColumnsProblem col2im_problem(const Tensor& columns, const Ints& output_size, const Ints& kernel,
                                     const Ints& dilation, const Ints& padding, const Ints& stride) {
  check(columns.dim() == 3, "input: expected shape (B, C * kernel_h * kernel_w, L)");
  check(output_size.size() == 2 && within(kernel, 2, 1), "output_size, kernel_size: expected two sizes");
  const int64_t taps = kernel[0] * kernel[1];
  check(columns.size(1) % taps == 0, "input: expected a multiple of kernel_h * kernel_w rows");
  const ColumnsProblem problem = columns_problem(dtype_of(columns), columns.size(0), columns.size(1) / taps,
                                                 output_size[0], output_size[1], kernel, dilation, padding, stride);
  check(columns.size(2) == problem.out_height * problem.out_width, "input: expected a column for each position");
  return problem;
}

}  // namespace visionops
