// Tensors to pointers for a depthwise convolution that feeds a pointwise one: the schema and the problem to solve.
#include "conv/convolution_torch.h"

namespace visionops {
namespace {

Tensor depthwise_separable_conv2d_op(const Tensor& input, const Tensor& depthwise_weight,
                                     const std::optional<Tensor>& depthwise_bias, const Tensor& pointwise_weight,
                                     const std::optional<Tensor>& pointwise_bias, const Ints& stride,
                                     const Ints& padding, const Ints& dilation, int64_t depthwise_activation,
                                     int64_t pointwise_activation) {
  check_images(input, depthwise_weight);
  check_images(input, pointwise_weight);
  check(depthwise_activation >= 0 && depthwise_activation <= kLastActivation && pointwise_activation >= 0 &&
            pointwise_activation <= kLastActivation,
        "activation: expected 0 to 6");
  const int64_t channels = input.size(1), filters = pointwise_weight.size(0);
  check(channels >= 1, "input: expected channels");
  check(depthwise_weight.size(0) == channels && depthwise_weight.size(1) == 1,
        "depthwise_weight: expected shape (C, 1, kh, kw)");
  check(pointwise_weight.size(1) == channels && pointwise_weight.size(2) == 1 && pointwise_weight.size(3) == 1,
        "pointwise_weight: expected shape (O, C, 1, 1)");
  const Shapes s(input.size(2), input.size(3), channels, channels, {depthwise_weight.size(2), depthwise_weight.size(3)},
                 stride, padding, dilation, channels);
  const Tensor in = as_dense_image(input);
  const bool last = is_channels_last(in);
  std::optional<Tensor> kept_depthwise, kept_pointwise;
  const Tensor& dw = depthwise_weight;
  const Tensor& pw = pointwise_weight;
  Tensor out = empty_image(in.size(0), filters, s.y.positions, s.x.positions, last, in.scalar_type());
  SeparableProblem problem;
  problem.depthwise = {dtype_of(in),
                       in.const_data_ptr(),
                       dw.const_data_ptr(),
                       bias_of(depthwise_bias, kept_depthwise, in, channels),
                       nullptr,
                       in.size(0),
                       channels,
                       1,
                       1,
                       s.y.positions,
                       s.x.positions,
                       last,
                       s.y,
                       s.x,
                       {dw.stride(0), dw.stride(0), dw.stride(1), dw.stride(2), dw.stride(3)},
                       static_cast<Activation>(depthwise_activation)};
  problem.pointwise = {dtype_of(in),
                       nullptr,
                       pw.const_data_ptr(),
                       bias_of(pointwise_bias, kept_pointwise, in, filters),
                       out.mutable_data_ptr(),
                       in.size(0),
                       1,
                       channels,
                       filters,
                       s.y.positions,
                       s.x.positions,
                       last,
                       axis_of(s.y.positions, 1, 1, 0, 0, 1),
                       axis_of(s.x.positions, 1, 1, 0, 0, 1),
                       {0, pw.stride(0), pw.stride(1), pw.stride(2), pw.stride(3)},
                       static_cast<Activation>(pointwise_activation)};
  const Tensor by_tap = filters_of(problem.depthwise);
  problem.filters = by_tap.const_data_ptr();
  // A half is given out beforehand, for a piece reads around its edges what others read too.
  const SeparableWork work = separable_work(problem);
  const int64_t own = work.piece == 0 ? work.items : work.items / 2 / work.piece * work.piece;
  Rest rest = {{own}, work.items, work.piece};
  parallel(own, kProductsPerTask / (channels * 512) + 1,
           [&](int64_t begin, int64_t end) { separable(problem, scratch(), begin, end, rest); });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "depthwise_separable_conv2d_native(Tensor input, Tensor depthwise_weight, Tensor? depthwise_bias, "
      "Tensor pointwise_weight, Tensor? pointwise_bias, int[] stride, int[] padding, int[] dilation, "
      "int depthwise_activation, int pointwise_activation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("depthwise_separable_conv2d_native", TORCH_BOX(&depthwise_separable_conv2d_op));
}

}  // namespace visionops
