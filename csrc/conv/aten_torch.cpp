// Torch's own convolution as a backend, called from C++: a kernel in Python would cost as much as a small convolution.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include "conv/activation.h"
#include "conv/convolution_torch.h"

namespace visionops {
namespace {

/// Whether `after` pixels of padding behind an image make as many windows as `before` pixels do.
bool is_even(int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation) {
  // It may make none, which positions() refuses.
  const int64_t spare = size + 2 * before - dilation * (kernel - 1) - 1;
  return before == after ||
         (spare >= 0 && positions(size, before, after, kernel, stride, dilation) == spare / stride + 1);
}

/// Channel by channel, with strides that tell so where those of one channel or one column may be either layout's.
Tensor with_planes(const Tensor& image) {
  return torch::stable::view(in_layout(image, false), {image.size(0), image.size(1), image.size(2), image.size(3)});
}

Tensor conv2d_aten_op(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Ints& stride,
                      const Ints& padding, const Ints& dilation, int64_t groups, int64_t activation) {
  check_images(input, weight);
  check(activation >= 0 && activation <= kLastActivation, "activation: expected 0 to 6");
  check(weight.numel() > 0, "weight: expected at least one channel, for torch makes no results of none");
  window_of({weight.size(2), weight.size(3)}, stride, padding, dilation);
  const bool last = is_channels_last(input);
  const bool even = is_even(input.size(2), weight.size(2), stride[0], padding[0], padding[1], dilation[0]) &&
                    is_even(input.size(3), weight.size(3), stride[1], padding[2], padding[3], dilation[1]);
  const Tensor padded =
      even ? input : torch::stable::pad(input, {padding[2], padding[3], padding[0], padding[1]}, "constant", 0.0);
  // oneDNN writes wrong values, or beyond memory, where channels are last and images or results are one pixel wide.
  const bool thin = input.size(3) == 1 ||
                    positions(input.size(3), padding[2], padding[3], weight.size(3), stride[1], dilation[1]) == 1;
  const Tensor image = thin ? with_planes(padded) : padded;
  // torch lets the weight's layout decide as well.
  const Tensor filters = thin ? with_planes(weight) : in_layout(weight, last);
  const int64_t sides[] = {even ? padding[0] : 0, even ? padding[2] : 0}, none[] = {0, 0};
  AtenTensorHandle shift = bias ? bias->get() : nullptr, handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_convolution(image.get(), filters.get(), bias ? &shift : nullptr,
                                                           stride.data(), 2, sides, 2, dilation.data(), 2, 0, none, 2,
                                                           groups, &handle));
  Tensor out = in_layout(Tensor(handle), last);
  if (activation != 0) {
    void* values = out.mutable_data_ptr();
    parallel(out.numel(), kValuesPerTask, [&](int64_t begin, int64_t end) {
      activate(values, dtype_of(out), static_cast<Activation>(activation), begin, end);
    });
  }
  return out;
}

}  // namespace

// visionops/conv/aten.py has it for the other devices.
STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "conv2d_aten(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
      "int groups, int activation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) { m.impl("conv2d_aten", TORCH_BOX(&conv2d_aten_op)); }

}  // namespace visionops
