// Tensors to pointers for convolutions and their adjoints: schemas, and the problems that the kernels solve.
#include <numeric>
#include <vector>

#include "conv/convolution_torch.h"
#include "conv/depthwise.h"

namespace visionops {
namespace {

constexpr int64_t kItemsEnough = 64;  // of a gradient by a weight, to keep threads busy
constexpr int64_t kMostParts = 8;
constexpr int64_t kPositionsEnough = 512;  // of a part

// Seen from an axis over the result: phase `phase` of `stride` of them is the window of the adjoint over the positions.
Axis adjoint(const Axis& axis, int64_t phase) {
  const int64_t stride = axis.step;
  // Pixel phase + p stride gets from position q by tap t where phase + p stride = first + q stride + t tap_step.
  int64_t first_tap = 0;
  while (first_tap < axis.taps && (phase - axis.first - first_tap * axis.tap_step) % stride != 0) ++first_tap;
  const int64_t tap_step = stride / std::gcd(axis.tap_step, stride);
  const int64_t taps = first_tap < axis.taps ? (axis.taps - 1 - first_tap) / tap_step + 1 : 0;
  return {axis.size > phase ? (axis.size - 1 - phase) / stride + 1 : 0,
          axis.positions,
          (phase - axis.first - first_tap * axis.tap_step) / stride,
          1,
          taps,
          -tap_step * axis.tap_step / stride,
          first_tap,
          tap_step,
          phase,
          stride};
}

// The same at once, of a result whose pixels lie `stride` apart.
Axis whole_adjoint(const Axis& axis) {
  Axis whole = {axis.size, axis.positions, -axis.first, 1, axis.taps, -axis.tap_step, 0, 1, 0, 1};
  whole.apart = axis.step;
  return whole;
}

// Phases are cut alike, so that what a thread has of each reads and writes the same rows.
void run_depthwise(const std::vector<ConvolutionProblem>& phases) {
  std::vector<Tensor> filters;
  int64_t slices = 0, products = 0;
  for (const ConvolutionProblem& phase : phases) {
    filters.push_back(filters_of(phase));
    slices = std::max(slices, depthwise_items(phase));
    const int64_t values = phase.batch * phase.groups * phase.y.positions * phase.x.positions;
    products += values * phase.y.taps * phase.x.taps;
  }
  parallel(slices, slices * kValuesPerTask / (products + 1) + 1, [&](int64_t begin, int64_t end) {
    for (size_t i = 0; i < phases.size(); ++i) {
      const int64_t items = depthwise_items(phases[i]);
      depthwise(phases[i], filters[i].const_data_ptr(), scratch(), items * begin / slices, items * end / slices);
    }
  });
}

// The result in parts, which are of one kind and write different pixels.
void run(const std::vector<ConvolutionProblem>& phases) {
  if (phases[0].in_channels == 1 && phases[0].out_channels == 1) return run_depthwise(phases);
  for (const ConvolutionProblem& phase : phases) {
    const int64_t products = phase.in_channels * phase.y.taps * phase.x.taps * 512;
    parallel(convolution_items(phase), kProductsPerTask / (products + 1) + 1,
             [&](int64_t begin, int64_t end) { convolution(phase, scratch(), begin, end); });
  }
}

void run_depthwise_weight(const ConvolutionProblem& problem, void* grad_weight) {
  const int64_t parts = depthwise_weight_parts(problem);
  const bool wide = problem.dtype == DType::f64;
  Tensor sums =
      empty({parts, problem.y.taps * problem.x.taps, problem.groups}, wide ? ScalarType::Double : ScalarType::Float);
  void* data = sums.mutable_data_ptr();
  parallel(parts, 1, [&](int64_t begin, int64_t end) { depthwise_weight(problem, data, begin, end); });
  depthwise_weight_total(problem, data, grad_weight);
}

// A small gradient is summed over parts of the images, or few threads would have all the work.
void run_weight(ConvolutionProblem problem, void* grad_weight) {
  // Where channels are last, the rows of images whose pixels are the positions are images too.
  if (problem.channels_last && problem.y.is_pixels() && problem.x.is_pixels()) {
    problem.batch *= problem.y.size;
    problem.y = axis_of(1, 1, 1, 0, 0, 1);
    problem.out_height = 1;
  }
  const int64_t items = convolution_weight_items(problem);
  const bool wide = problem.dtype == DType::f64;
  const int64_t positions = problem.batch * problem.y.positions * problem.x.positions;
  const int64_t parts = std::min({problem.batch, kMostParts, positions / kPositionsEnough});
  if (items >= kItemsEnough || parts < 2 || (problem.dtype != DType::f32 && !wide)) {
    parallel(items, 1,
             [&](int64_t begin, int64_t end) { convolution_weight(problem, grad_weight, scratch(), begin, end); });
    return;
  }
  const int64_t count = problem.groups * problem.weight_strides.group, size = wide ? sizeof(double) : sizeof(float);
  const int64_t pixels = problem.groups * problem.in_channels * problem.y.size * problem.x.size;
  const int64_t results = problem.groups * problem.out_channels * problem.y.positions * problem.x.positions;
  Tensor sums = empty({parts, count}, wide ? ScalarType::Double : ScalarType::Float);
  char* data = static_cast<char*>(sums.mutable_data_ptr());
  parallel(parts * items, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin / items; part * items < end; ++part) {
      const int64_t image = problem.batch * part / parts;
      ConvolutionProblem some = problem;
      some.batch = problem.batch * (part + 1) / parts - image;
      some.image = static_cast<const char*>(problem.image) + image * pixels * size;
      some.out = static_cast<char*>(problem.out) + image * results * size;
      const int64_t from = begin - part * items, to = end - part * items;
      convolution_weight(some, data + part * count * size, scratch(), from > 0 ? from : 0, to < items ? to : items);
    }
  });
  sum_parts(data, problem.dtype, parts, count, grad_weight);
}

Tensor conv2d_op(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Ints& stride,
                 const Ints& padding, const Ints& dilation, int64_t groups, int64_t activation) {
  check_images(input, weight);
  check(activation >= 0 && activation <= kLastActivation, "activation: expected 0 to 6");
  const Shapes s(input.size(2), input.size(3), input.size(1), weight.size(0), {weight.size(2), weight.size(3)}, stride,
                 padding, dilation, groups);
  check(weight.size(1) == s.in_channels, "weight: expected channels of one group");
  const Tensor in = as_dense_image(input);
  const bool last = is_channels_last(in);
  std::optional<Tensor> kept;
  Tensor out = empty_image(in.size(0), weight.size(0), s.y.positions, s.x.positions, last, in.scalar_type());
  const ConvolutionProblem problem = {
      dtype_of(in),
      in.const_data_ptr(),
      weight.const_data_ptr(),
      bias_of(bias, kept, in, weight.size(0)),
      out.mutable_data_ptr(),
      in.size(0),
      groups,
      s.in_channels,
      s.out_channels,
      s.y.positions,
      s.x.positions,
      last,
      s.y,
      s.x,
      {s.out_channels * weight.stride(0), weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)},
      static_cast<Activation>(activation)};
  run({problem});
  return out;
}

Tensor conv_transpose2d_op(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                           const Ints& output_size, const Ints& stride, const Ints& padding, const Ints& dilation,
                           int64_t groups) {
  const Shapes s = transposed_shapes(input, weight, output_size, stride, padding, dilation, groups);
  const int64_t out_channels = weight.size(1) * groups;
  const Tensor in = as_dense_image(input);
  const bool last = is_channels_last(in);
  std::optional<Tensor> kept;
  Tensor out = empty_image(in.size(0), out_channels, output_size[0], output_size[1], last, in.scalar_type());
  ConvolutionProblem problem = {
      dtype_of(in),
      in.const_data_ptr(),
      weight.const_data_ptr(),
      bias_of(bias, kept, in, out_channels),
      out.mutable_data_ptr(),
      in.size(0),
      groups,
      s.out_channels,
      s.in_channels,
      output_size[0],
      output_size[1],
      last,
      s.y,
      s.x,
      {s.out_channels * weight.stride(0), weight.stride(1), weight.stride(0), weight.stride(2), weight.stride(3)},
      Activation::none};
  ConvolutionProblem whole = problem;
  whole.y = whole_adjoint(s.y);
  whole.x = whole_adjoint(s.x);
  if (s.in_channels == 1 && s.out_channels == 1 && !last && depthwise_by_planes(whole)) {
    run_depthwise({whole});
    return out;
  }
  std::vector<ConvolutionProblem> phases;
  for (int64_t row = 0; row < stride[0] && row < output_size[0]; ++row) {
    for (int64_t column = 0; column < stride[1] && column < output_size[1]; ++column) {
      phases.push_back(problem);
      phases.back().y = adjoint(s.y, row);
      phases.back().x = adjoint(s.x, column);
    }
  }
  if (!phases.empty()) run(phases);
  return out;
}

Tensor conv2d_weight_op(const Tensor& grad, const Tensor& input, const Ints& kernel_size, const Ints& stride,
                        const Ints& padding, const Ints& dilation, int64_t groups) {
  const Shapes s = gradient_shapes(grad, input, kernel_size, stride, padding, dilation, groups);
  const Tensor in = as_dense_image(input);
  const bool last = is_channels_last(in);
  const Tensor g = in_layout(grad, last);
  const int64_t taps = kernel_size[0] * kernel_size[1];
  Tensor out = empty({grad.size(1), s.in_channels, kernel_size[0], kernel_size[1]}, in.scalar_type());
  const ConvolutionProblem problem = {
      dtype_of(in),
      in.const_data_ptr(),
      nullptr,
      nullptr,
      const_cast<void*>(g.const_data_ptr()),
      in.size(0),
      groups,
      s.in_channels,
      s.out_channels,
      s.y.positions,
      s.x.positions,
      last,
      s.y,
      s.x,
      {s.out_channels * s.in_channels * taps, s.in_channels * taps, taps, kernel_size[1], 1},
      Activation::none};
  void* data = out.mutable_data_ptr();
  const bool depthwise = s.in_channels == 1 && s.out_channels == 1;
  if (depthwise && last) {
    run_depthwise_weight(problem, data);
  } else if (depthwise && depthwise_by_planes(problem)) {
    parallel(groups, kValuesPerTask / (grad.numel() / groups * taps + 1) + 1,
             [&](int64_t begin, int64_t end) { depthwise_weight_planes(problem, data, scratch(), begin, end); });
  } else {
    run_weight(problem, data);
  }
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "conv2d_native(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
      "int groups, int activation) -> Tensor");
  m.def(
      "conv_transpose2d_native(Tensor input, Tensor weight, Tensor? bias, SymInt[] output_size, int[] stride, "
      "int[] padding, int[] dilation, int groups) -> Tensor");
  m.def(
      "conv2d_weight_native(Tensor grad, Tensor input, SymInt[] kernel_size, int[] stride, int[] padding, "
      "int[] dilation, int groups) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("conv2d_native", TORCH_BOX(&conv2d_op));
  m.impl("conv_transpose2d_native", TORCH_BOX(&conv_transpose2d_op));
  m.impl("conv2d_weight_native", TORCH_BOX(&conv2d_weight_op));
}

}  // namespace visionops
