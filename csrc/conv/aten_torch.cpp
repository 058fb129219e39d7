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

/// Whether a window may lie wholly in the padding: beside the image, or with its taps on both sides of it.
bool may_miss(int64_t size, int64_t kernel, int64_t before, int64_t after, int64_t dilation) {
  const int64_t reach = dilation * (kernel - 1);
  return before > reach || after > reach || (kernel > 1 && dilation > size);
}

/// An image and the window over it as torch takes them, with the same padding on both sides.
struct Given {
  Tensor image;
  int64_t stride[2], sides[2];
  bool is_thin = false;  // the image or the result is one pixel wide

  Given(const Tensor& input, const Ints& kernel, const Ints& stride, const Ints& padding, const Ints& dilation)
      : image(input), stride{stride[0], stride[1]}, sides{padding[0], padding[2]} {
    Ints whole = padding;
    bool is_padded = false;
    for (int d = 0; d < 2; ++d) {
      const int64_t size = input.size(2 + d), before = padding[2 * d];
      int64_t& after = whole[2 * d + 1];
      const bool is_one = positions(size, before, after, kernel[d], stride[d], dilation[d]) == 1;
      if (d == 1) is_thin = size == 1 || is_one;
      // oneDNN's values are wrong in bfloat16 where a window with a stride has one place: there it needs none.
      if (is_one) {
        after = dilation[d] * (kernel[d] - 1) + 1 - size - before;
        this->stride[d] = 1;
      }
      // It crashes where a window misses the image, and in 16-bit types returns garbage where most of one may lie
      // beside it.
      is_padded |= (input.element_size() == 2 && 2 * std::max(before, after) > kernel[d]) ||
                   !is_even(size, kernel[d], this->stride[d], before, after, dilation[d]) ||
                   may_miss(size, kernel[d], before, after, dilation[d]);
    }
    if (is_padded) {
      const auto added = [&](int side) { return std::max<int64_t>(whole[side], 0); };
      image = torch::stable::pad(input, {added(2), added(3), added(0), added(1)}, "constant", 0.0);
      // What is cut off behind may be all of the image and zeros before it.
      for (int d = 0; d < 2; ++d) {
        const int64_t after = whole[2 * d + 1];
        if (after < 0) image = torch::stable::narrow(image, 2 + d, 0, image.size(2 + d) + after);
      }
      sides[0] = sides[1] = 0;
    }
  }
};

/// Channel by channel, with strides that tell so where those of one channel or one column may be either layout's.
Tensor with_planes(const Tensor& image) {
  return torch::stable::view(in_layout(image, false), {image.size(0), image.size(1), image.size(2), image.size(3)});
}

/// Whether oneDNN misreads such filters in 16-bit types: of few channels, an even number, in wide windows, where the
/// CPU multiplies tiles (AMX).
bool is_misread(const Tensor& weight) {
  const int64_t channels = weight.size(1);
  return weight.element_size() == 2 && channels < 32 && channels % 2 == 0 && weight.size(3) > 3;
}

Tensor conv2d_aten_op(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Ints& stride,
                      const Ints& padding, const Ints& dilation, int64_t groups, int64_t activation) {
  check_images(input, weight);
  check(activation >= 0 && activation <= kLastActivation, "activation: expected 0 to 6");
  const Ints kernel = {weight.size(2), weight.size(3)};
  window_of(kernel, stride, padding, dilation);
  check(weight.numel() > 0, "weight: expected at least one channel, for torch makes no results of none");
  if (is_misread(weight)) {
    const auto in = [](const Tensor& tensor, ScalarType type) { return torch::stable::to(tensor, type); };
    const auto shift = bias ? std::optional<Tensor>(in(*bias, ScalarType::Float)) : std::nullopt;
    return in(conv2d_aten_op(in(input, ScalarType::Float), in(weight, ScalarType::Float), shift, stride, padding,
                             dilation, groups, activation),
              input.scalar_type());
  }
  const bool last = is_channels_last(input);
  const Given given(input, kernel, stride, padding, dilation);
  // oneDNN writes wrong values, or beyond memory, where channels are last in what is thin.
  const Tensor image = given.is_thin ? with_planes(given.image) : given.image;
  // torch lets the weight's layout decide as well.
  const Tensor filters = given.is_thin ? with_planes(weight) : in_layout(weight, last);
  const int64_t none[] = {0, 0};
  AtenTensorHandle shift = bias ? bias->get() : nullptr, handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_convolution(image.get(), filters.get(), bias ? &shift : nullptr,
                                                           given.stride, 2, given.sides, 2, dilation.data(), 2, 0, none,
                                                           2, groups, &handle));
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
