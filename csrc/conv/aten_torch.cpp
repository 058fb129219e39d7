// Torch's own convolution as a backend, and its gradients, called from C++: a kernel in Python would cost as much as a
// small convolution.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <array>

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

/// The image with its padding in it: top, bottom, left, right. What is cut off behind, where that is negative, may be
/// all of the image and zeros before it.
Tensor with_padding(const Tensor& input, const Ints& padding) {
  const auto added = [&](int side) { return std::max<int64_t>(padding[side], 0); };
  Tensor image = torch::stable::pad(input, {added(2), added(3), added(0), added(1)}, "constant", 0.0);
  for (int d = 0; d < 2; ++d) {
    const int64_t after = padding[2 * d + 1];
    if (after < 0) image = torch::stable::narrow(image, 2 + d, 0, image.size(2 + d) + after);
  }
  return image;
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
      image = with_padding(input, whole);
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

/// Which gradients of a convolution are wanted.
struct Wanted {
  bool by_image, by_weight;
};

/// Whether a window may lie wholly in the padding, along either side of an image of this size.
bool may_miss(const Ints& size, const Ints& kernel, const Ints& padding, const Ints& dilation) {
  return may_miss(size[0], kernel[0], padding[0], padding[1], dilation[0]) ||
         may_miss(size[1], kernel[1], padding[2], padding[3], dilation[1]);
}

/// Whether oneDNN's gradients of 16-bit types are wrong: by the image it crashes where a window misses that; by the
/// weight it returns garbage for dilated windows, what is one pixel wide, and more padding than half a window.
bool is_wrong(Wanted wanted, const Tensor& grad, const Tensor& image, const Ints& kernel, const Ints& padding,
              const Ints& dilation) {
  if (image.element_size() != 2) return false;
  bool is_odd = image.size(3) == 1 || grad.size(3) == 1;
  for (int d = 0; d < 2; ++d) {
    is_odd |= dilation[d] > 1 || 2 * std::max(padding[2 * d], padding[2 * d + 1]) > kernel[d];
  }
  return (wanted.by_image && may_miss({image.size(2), image.size(3)}, kernel, padding, dilation)) ||
         (wanted.by_weight && is_odd);
}

/// The gradients of a convolution by its image and by its weight, each in the layout of what it is the gradient of,
/// where they are wanted. Of a tensor whose gradient alone is wanted no values are used.
std::tuple<Tensor, Tensor> gradients(Wanted wanted, const Tensor& grad, const Tensor& image, const Tensor& weight,
                                     const Ints& stride, const Ints& padding, const Ints& dilation, int64_t groups) {
  const Ints kernel = {weight.size(2), weight.size(3)};
  if (is_wrong(wanted, grad, image, kernel, padding, dilation)) {
    const auto wide = [](const Tensor& tensor) { return torch::stable::to(tensor, ScalarType::Float); };
    auto [by_image, by_weight] =
        gradients(wanted, wide(grad), wide(image), wide(weight), stride, padding, dilation, groups);
    if (wanted.by_image) by_image = torch::stable::to(by_image, image.scalar_type());
    if (wanted.by_weight) by_weight = torch::stable::to(by_weight, image.scalar_type());
    return {by_image, by_weight};
  }
  // The gradient by the weight is wrong, in float32 too, for windows along a row that are dilated and have a stride and
  // much padding: seen from 15 pixels of it and 29 results.
  bool is_padded = dilation[1] > 1 && stride[1] > 1 && std::max(padding[2], padding[3]) > 0;
  for (int d = 0; d < 2; ++d) {
    is_padded |= !is_even(image.size(2 + d), kernel[d], stride[d], padding[2 * d], padding[2 * d + 1], dilation[d]);
  }
  const bool last = is_channels_last(image), is_thin = image.size(3) == 1 || grad.size(3) == 1;
  const auto given = [&](const Tensor& tensor) { return is_thin ? with_planes(tensor) : in_layout(tensor, last); };
  const Tensor result = given(grad), whole = given(is_padded ? with_padding(image, padding) : image),
               filters = given(weight);
  const int64_t sides[] = {is_padded ? 0 : padding[0], is_padded ? 0 : padding[2]}, none[] = {0, 0};
  const int32_t mask[] = {wanted.by_image, wanted.by_weight, 0};
  AtenTensorHandle handles[3] = {};
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_convolution_backward(
      result.get(), whole.get(), filters.get(), nullptr, 0, stride.data(), 2, sides, 2, dilation.data(), 2, 0, none, 2,
      groups, mask, 3, &handles[0], &handles[1], &handles[2]));
  // All three are owned here, those not wanted too.
  Tensor by_image(handles[0]), by_weight(handles[1]);
  const Tensor by_bias(handles[2]);
  if (wanted.by_image) {
    if (is_padded) {
      const auto cut = [&](int side) { return std::max<int64_t>(-padding[side], 0); };
      by_image = torch::stable::pad(by_image, {0, cut(3), 0, cut(1)}, "constant", 0.0);
      for (int d = 0; d < 2; ++d) {
        by_image = torch::stable::narrow(by_image, 2 + d, padding[2 * d], image.size(2 + d));
      }
    }
    by_image = in_layout(by_image, last);
  }
  if (wanted.by_weight) by_weight = in_layout(by_weight, is_channels_last(weight));
  return {by_image, by_weight};
}

std::tuple<Tensor, Tensor> conv2d_backward_aten_op(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                   const Ints& stride, const Ints& padding, const Ints& dilation,
                                                   int64_t groups) {
  check_images(input, weight);
  const Ints kernel = {weight.size(2), weight.size(3)};
  const Shapes s = gradient_shapes(grad, input, kernel, stride, padding, dilation, groups);
  check(weight.size(0) == grad.size(1) && weight.size(1) == s.in_channels, "weight: expected channels of one group");
  return gradients({true, true}, grad, input, weight, stride, padding, dilation, groups);
}

/// What torch's transposed convolution adds at the bottom and on the right of its result to make it of this size, if
/// it takes that.
std::optional<std::array<int64_t, 2>> output_padding(const Tensor& input, const Tensor& weight, const Ints& output_size,
                                                     const Ints& stride, const Ints& padding, const Ints& dilation) {
  std::array<int64_t, 2> added;
  for (int d = 0; d < 2; ++d) {
    const int64_t reach = dilation[d] * (weight.size(2 + d) - 1) + 1;
    added[d] = output_size[d] - ((input.size(2 + d) - 1) * stride[d] + reach - 2 * padding[2 * d]);
    if (added[d] < 0 || added[d] >= std::max(stride[d], dilation[d])) return std::nullopt;
  }
  return added;
}

Tensor conv_transpose2d_aten_op(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                                const Ints& output_size, const Ints& stride, const Ints& padding, const Ints& dilation,
                                int64_t groups) {
  transposed_shapes(input, weight, output_size, stride, padding, dilation, groups);
  const int64_t channels = weight.size(1) * groups;
  check(!bias || (bias->dim() == 1 && bias->size(0) == channels), "bias: expected one value per output channel");
  check(weight.numel() > 0, "weight: expected at least one channel, for torch makes no results of none");
  const bool last = is_channels_last(input);
  const auto added = output_padding(input, weight, output_size, stride, padding, dilation);
  // As its gradients, it crashes in 16-bit types.
  const bool crashes =
      input.element_size() == 2 && may_miss(output_size, {weight.size(2), weight.size(3)}, padding, dilation);
  if (added && !crashes) {
    const int64_t sides[] = {padding[0], padding[2]};
    const Tensor image = in_layout(input, last), filters = in_layout(weight, last);
    AtenTensorHandle shift = bias ? bias->get() : nullptr, handle = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_convolution(image.get(), filters.get(), bias ? &shift : nullptr,
                                                             stride.data(), 2, sides, 2, dilation.data(), 2, 1,
                                                             added->data(), 2, groups, &handle));
    return in_layout(Tensor(handle), last);
  }
  const Tensor whole = empty_image(input.size(0), channels, output_size[0], output_size[1], last, input.scalar_type());
  const Tensor out = std::get<0>(gradients({true, false}, input, whole, weight, stride, padding, dilation, groups));
  if (!bias) return out;
  const Tensor shift = torch::stable::view(as_contiguous(*bias), {channels, 1, 1});
  AtenTensorHandle sum = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_add_Tensor(out.get(), shift.get(), 1, &sum));
  return Tensor(sum);
}

Tensor conv2d_weight_aten_op(const Tensor& grad, const Tensor& input, const Ints& kernel_size, const Ints& stride,
                             const Ints& padding, const Ints& dilation, int64_t groups) {
  const Shapes s = gradient_shapes(grad, input, kernel_size, stride, padding, dilation, groups);
  const Tensor weight = empty({grad.size(1), s.in_channels, kernel_size[0], kernel_size[1]}, input.scalar_type());
  return std::get<1>(gradients({false, true}, grad, input, weight, stride, padding, dilation, groups));
}

}  // namespace

// visionops/conv/aten.py has them for the other devices.
STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "conv2d_aten(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
      "int groups, int activation) -> Tensor");
  m.def(
      "conv2d_backward_aten(Tensor grad, Tensor input, Tensor weight, int[] stride, int[] padding, int[] dilation, "
      "int groups) -> (Tensor, Tensor)");
  m.def(
      "conv_transpose2d_aten(Tensor input, Tensor weight, Tensor? bias, SymInt[] output_size, int[] stride, "
      "int[] padding, int[] dilation, int groups) -> Tensor");
  m.def(
      "conv2d_weight_aten(Tensor grad, Tensor input, SymInt[] kernel_size, int[] stride, int[] padding, "
      "int[] dilation, int groups) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("conv2d_aten", TORCH_BOX(&conv2d_aten_op));
  m.impl("conv2d_backward_aten", TORCH_BOX(&conv2d_backward_aten_op));
  m.impl("conv_transpose2d_aten", TORCH_BOX(&conv_transpose2d_aten_op));
  m.impl("conv2d_weight_aten", TORCH_BOX(&conv2d_weight_aten_op));
}

}  // namespace visionops
