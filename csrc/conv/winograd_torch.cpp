// Tensors to pointers for Winograd's convolution, whose filters are packed once.
#include "conv/convolution_torch.h"
#include "conv/winograd.h"

namespace visionops {
namespace {

constexpr int64_t kSide = 3, kPoints = 16;

Tensor winograd_filters_op(const Tensor& weight) {
  check(weight.dim() == 4 && weight.size(2) == kSide && weight.size(3) == kSide, "weight: expected shape (O, C, 3, 3)");
  check(dtype_of(weight) == DType::f32, "weight: expected float32");
  const Tensor from = as_contiguous(weight);
  const int64_t out = weight.size(0), in = weight.size(1), rows = winograd_rows(), tiles = (out + rows - 1) / rows;
  Tensor filters = empty({tiles, kPoints, in, rows}, ScalarType::Float);
  auto* to = static_cast<float*>(filters.mutable_data_ptr());
  parallel(tiles, kValuesPerTask / (rows * in * kPoints + 1) + 1, [&](int64_t begin, int64_t end) {
    winograd_filters(static_cast<const float*>(from.const_data_ptr()), out, in, to, begin, end);
  });
  return filters;
}

Tensor conv2d_winograd_op(const Tensor& input, const Tensor& filters, const std::optional<Tensor>& bias,
                          int64_t out_channels, const Ints& padding, int64_t activation) {
  check_images(input, filters);
  check(dtype_of(input) == DType::f32, "input: expected float32");
  check(activation >= 0 && activation <= kLastActivation, "activation: expected 0 to 6");
  window_of({kSide, kSide}, {1, 1}, padding, {1, 1});
  const int64_t in_channels = input.size(1), rows = winograd_rows();
  check(in_channels <= kMostWinogradChannels, "input: expected at most 512 channels");
  check(out_channels >= 0 && filters.is_contiguous() && filters.size(0) == (out_channels + rows - 1) / rows &&
            filters.size(1) == kPoints && filters.size(2) == in_channels && filters.size(3) == rows,
        "filters: expected those that winograd_filters makes of the weight on this instruction set");
  const Tensor in = as_dense_image(input);
  const bool last = is_channels_last(in);
  const int64_t height = positions(in.size(2), padding[0], padding[1], kSide, 1, 1);
  const int64_t width = positions(in.size(3), padding[2], padding[3], kSide, 1, 1);
  std::optional<Tensor> kept;
  Tensor out = empty_image(in.size(0), out_channels, height, width, last, in.scalar_type());
  const WinogradProblem problem = {static_cast<const float*>(in.const_data_ptr()),
                                   static_cast<const float*>(filters.const_data_ptr()),
                                   static_cast<const float*>(bias_of(bias, kept, in, out_channels)),
                                   static_cast<float*>(out.mutable_data_ptr()),
                                   in.size(0),
                                   in_channels,
                                   out_channels,
                                   in.size(2),
                                   in.size(3),
                                   height,
                                   width,
                                   padding[0],
                                   padding[2],
                                   last,
                                   static_cast<Activation>(activation)};
  const int64_t products = (in_channels + 1) * kPoints * 512;
  parallel(winograd_items(problem), kProductsPerTask / products + 1,
           [&](int64_t begin, int64_t end) { winograd(problem, scratch(), begin, end); });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def("winograd_filters_native(Tensor weight) -> Tensor");
  m.def(
      "conv2d_winograd_native(Tensor input, Tensor filters, Tensor? bias, SymInt out_channels, int[] padding, "
      "int activation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("winograd_filters_native", TORCH_BOX(&winograd_filters_op));
  m.impl("conv2d_winograd_native", TORCH_BOX(&conv2d_winograd_op));
}

}  // namespace visionops
