// What the glue of all convolutions shares: scratch, the checks that memory safety needs, axes of the window.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>

#include "common/stable_torch.h"
#include "conv/convolution.h"
#include "conv/depthwise.h"
#include "conv/window_torch.h"
#include "conv/winograd.h"

namespace visionops {

constexpr int64_t kProductsPerTask = 1 << 20;
constexpr int64_t kValuesPerTask = 32768;

// A thread keeps its scratch from call to call: fresh pages would cost a small convolution as much as its arithmetic.
inline void* scratch() {
  constexpr int64_t kLine = 64;
  static const int64_t bytes = std::max(convolution_scratch_bytes(), winograd_scratch_bytes());
  thread_local const std::unique_ptr<char[]> memory(new char[bytes + kLine]);
  return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.get()) + kLine - 1) / kLine * kLine);
}

inline Tensor in_layout(const Tensor& image, bool channels_last) {
  if (is_channels_last(image) == channels_last) return as_dense_image(image);
  using torch::headeronly::MemoryFormat;
  return torch::stable::contiguous(image, channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

// The sides of a window over an image.
inline Axis axis_of(int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation) {
  return {
      positions(size, before, after, kernel, stride, dilation), size, -before, stride, kernel, dilation, 0, 1, 0, 1};
}

// What checks the shapes that a convolution and its two adjoints share: weight is (out, in / groups, kh, kw).
struct Shapes {
  Axis y, x;
  int64_t groups, in_channels, out_channels;

  Shapes(int64_t height, int64_t width, int64_t in, int64_t out, const Ints& kernel, const Ints& stride,
         const Ints& padding, const Ints& dilation, int64_t groups)
      : groups(groups) {
    window_of(kernel, stride, padding, dilation);
    check(groups >= 1 && in % groups == 0 && out % groups == 0, "groups: expected a divisor of both channel counts");
    in_channels = in / groups;
    out_channels = out / groups;
    y = axis_of(height, kernel[0], stride[0], padding[0], padding[1], dilation[0]);
    x = axis_of(width, kernel[1], stride[1], padding[2], padding[3], dilation[1]);
  }
};

inline const void* bias_of(const std::optional<Tensor>& bias, std::optional<Tensor>& kept, const Tensor& input,
                           int64_t out) {
  if (!bias) return nullptr;
  check(bias->dim() == 1 && bias->size(0) == out, "bias: expected one value per output channel");
  check(bias->scalar_type() == input.scalar_type(), "bias: expected the input's dtype");
  kept = as_contiguous(*bias);
  return kept->const_data_ptr();
}

inline void check_images(const Tensor& a, const Tensor& b) {
  check(a.dim() == 4 && b.dim() == 4, "input, weight: expected four dimensions");
  check(is_floating(dtype_of(a)), "input: expected a floating dtype");
  check(a.scalar_type() == b.scalar_type(), "weight: expected the input's dtype");
}

// Of a transposed convolution, whose weight is (in, out / groups, kh, kw): those of the convolution it is the adjoint
// of.
inline Shapes transposed_shapes(const Tensor& input, const Tensor& weight, const Ints& output_size, const Ints& stride,
                                const Ints& padding, const Ints& dilation, int64_t groups) {
  check_images(input, weight);
  check(within(output_size, 2, 0), "output_size: expected two sizes, 0 or more");
  const Shapes s(output_size[0], output_size[1], weight.size(1) * groups, input.size(1),
                 {weight.size(2), weight.size(3)}, stride, padding, dilation, groups);
  check(weight.size(0) == input.size(1), "weight: expected the input's channels");
  check(input.size(2) == s.y.positions && input.size(3) == s.x.positions,
        "output_size: expected one from which a convolution makes the input's");
  return s;
}

// Of a gradient by the weight, from that of the result.
inline Shapes gradient_shapes(const Tensor& grad, const Tensor& input, const Ints& kernel_size, const Ints& stride,
                              const Ints& padding, const Ints& dilation, int64_t groups) {
  check_images(input, grad);
  check(within(kernel_size, 2, 1), "kernel_size: expected two sizes, 1 or more");
  const Shapes s(input.size(2), input.size(3), input.size(1), grad.size(1), kernel_size, stride, padding, dilation,
                 groups);
  check(grad.size(0) == input.size(0) && grad.size(2) == s.y.positions && grad.size(3) == s.x.positions,
        "grad: expected the shape of the result");
  return s;
}

// The filters of a depthwise problem by tap and channel.
inline Tensor filters_of(const ConvolutionProblem& problem) {
  const bool wide = problem.dtype == DType::f64;
  Tensor filters =
      empty({problem.y.taps * problem.x.taps, problem.groups}, wide ? ScalarType::Double : ScalarType::Float);
  depthwise_filters(problem, filters.mutable_data_ptr());
  return filters;
}

}  // namespace visionops
