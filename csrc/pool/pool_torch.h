// What the glue of room `pool` for CPU and GPU shares: schemas, and tensors checked and turned into shapes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/stable_torch.h"
#include "pool/adaptive_pool2d.h"
#include "pool/avg_pool2d.h"
#include "pool/max_pool2d.h"
#include "pool/max_unpool2d.h"

namespace visionops {

using Ints = std::vector<int64_t>;

/// Defines the room's operations under names that end in `suffix`, the backend's.
inline void define_pool(torch::stable::detail::StableLibrary& m, const std::string& suffix) {
  // Kernel_size, stride, padding and dilation, each (vertical, horizontal): one list, for each costs as much as a small
  // image. Of averages the dilation is 1.
  const std::string window = "int[] window";
  const std::string counted = window + ", bool ceil_mode, bool count_include_pad, int? divisor_override";
  const auto define = [&](const std::string& name, const std::string& arguments, const char* results = "Tensor") {
    m.def((name + suffix + "(" + arguments + ") -> " + results).c_str());
  };
  define("max_pool2d", "Tensor input, " + window + ", bool ceil_mode");
  define("max_pool2d_with_offsets", "Tensor input, " + window + ", bool ceil_mode", "(Tensor, Tensor)");
  define("max_pool2d_backward", "Tensor grad, Tensor offsets, SymInt[] size, " + window);
  define("max_pool2d_taken", "Tensor input, Tensor offsets, " + window);
  define("max_pool2d_indices", "Tensor offsets, SymInt[] size, " + window);
  define("avg_pool2d", "Tensor input, " + counted);
  define("avg_pool2d_backward", "Tensor grad, SymInt[] size, " + counted);
  define("max_unpool2d", "Tensor input, Tensor indices, SymInt[] size, bool adds");
  define("max_unpool2d_taken", "Tensor image, Tensor indices");
  define("adaptive_avg_pool2d", "Tensor input, SymInt[] size");
  define("adaptive_avg_pool2d_backward", "Tensor grad, SymInt[] size");
  define("adaptive_max_pool2d", "Tensor input, SymInt[] size", "(Tensor, Tensor)");
  define("adaptive_max_pool2d_backward", "Tensor grad, Tensor indices, SymInt[] size");
}

/// The axis 0 (y) or 1 (x) of a window over `in` pixels; `out` is still 0.
inline PoolAxis pool_axis(int64_t in, const Ints& window, int axis) {
  constexpr int64_t limit = int64_t{1} << 31;
  check(window.size() == 8, "window: expected kernel_size, stride, padding and dilation, two integers each");
  const int64_t k = window[axis], s = window[2 + axis], p = window[4 + axis], d = window[6 + axis];
  check(k > 0 && s > 0 && d > 0 && k < limit && s < limit && d < limit,
        "kernel_size, stride, dilation: expected 1 or more, and less than 2^31");
  check(p >= 0 && p <= k / 2, "padding: expected 0 or more, and at most half of kernel_size");
  check(in > 0 && in < limit, "input: expected a height and a width of at least 1, and less than 2^31");
  return {in, 0, k, s, p, d};
}

/// The window over (size[0], size[1]) pixels, with what is around them in dense images of a layout and dtype.
inline PoolShape pool_shape(int64_t batch, int64_t channels, const Ints& size, const Ints& window, bool channels_last,
                            DType dtype) {
  check(size.size() == 2, "size: expected (height, width)");
  check(is_floating(dtype), "input: expected a floating dtype");
  const PoolShape shape = {channels_last ? batch : batch * channels, channels_last ? channels : 1,
                           pool_axis(size[0], window, 0), pool_axis(size[1], window, 1), dtype};
  check(shape.y.kernel * shape.x.kernel < int64_t{1} << 31, "kernel_size: expected fewer than 2^31 taps");
  return shape;
}

/// How many windows fit along an axis, as visionops/pool/window.py says.
inline int64_t pooled_size(const PoolAxis& axis, bool ceil_mode) {
  const int64_t room = axis.in + 2 * axis.padding - axis.dilation * (axis.kernel - 1) - 1;
  const int64_t filled = room + (ceil_mode ? axis.stride - 1 : 0);
  int64_t count = filled < 0 ? 0 : filled / axis.stride + 1;
  if (ceil_mode && (count - 1) * axis.stride >= axis.in + axis.padding) --count;
  check(count > 0, "input: expected at least one window to fit");
  return count;
}

/// The shape of a pooling of `image`, dense in either layout.
inline PoolShape pool_shape_of(const Tensor& image, const Ints& window, bool ceil_mode) {
  check(image.dim() == 4, "input: expected shape (B, C, H, W)");
  PoolShape shape = pool_shape(image.size(0), image.size(1), {image.size(2), image.size(3)}, window,
                               is_channels_last(image), dtype_of(image));
  shape.y.out = pooled_size(shape.y, ceil_mode);
  shape.x.out = pooled_size(shape.x, ceil_mode);
  return shape;
}

/// The shape of a pooling of images of `size` pixels whose results are laid out and as many as `result`.
inline PoolShape pool_shape_to(const Tensor& result, const Ints& size, const Ints& window, DType dtype) {
  check(result.dim() == 4, "grad: expected shape (B, C, P, Q)");
  PoolShape shape = pool_shape(result.size(0), result.size(1), size, window, is_channels_last(result), dtype);
  shape.y.out = result.size(2);
  shape.x.out = result.size(3);
  // As many windows as ceil_mode gives, or one less.
  for (const PoolAxis& axis : {shape.y, shape.x}) {
    const int64_t most = pooled_size(axis, true);
    check(axis.out > 0 && (axis.out == most || axis.out == most - 1), "grad: expected as many windows as fit");
  }
  return shape;
}

/// The bins of images `pixels` that results of `bins` have, dense in either layout.
inline AdaptiveShape adaptive_shape(const Tensor& image, const Ints& pixels, const Ints& bins) {
  constexpr int64_t limit = int64_t{1} << 31;
  check(pixels.size() == 2 && bins.size() == 2, "size: expected (height, width)");
  for (const int64_t side : {pixels[0], pixels[1], bins[0], bins[1]}) {
    check(side > 0 && side < limit, "size: expected 1 or more, and less than 2^31");
  }
  const bool channels_last = is_channels_last(image);
  const int64_t batch = image.size(0), channels = image.size(1);
  check(is_floating(dtype_of(image)), "input: expected a floating dtype");
  return {channels_last ? batch : batch * channels,
          channels_last ? channels : 1,
          {pixels[0], bins[0]},
          {pixels[1], bins[1]},
          dtype_of(image)};
}

/// Values and indices of `result`'s size in images of `size` pixels.
inline UnpoolShape unpool_shape(const Tensor& result, const Tensor& indices, const Ints& size, DType dtype) {
  constexpr int64_t limit = int64_t{1} << 31;
  check(indices.scalar_type() == ScalarType::Long, "indices: expected int64");
  check(size.size() == 2 && size[0] > 0 && size[1] > 0 && size[0] < limit && size[1] < limit,
        "size: expected (height, width), 1 or more, and less than 2^31");
  check(is_floating(dtype), "input: expected a floating dtype");
  const bool channels_last = is_channels_last(result);
  const int64_t batch = result.size(0), channels = result.size(1);
  return {channels_last ? batch : batch * channels, channels_last ? channels : 1, result.size(2) * result.size(3),
          size[0] * size[1], dtype};
}

inline PoolDivisor divisor_of(const PoolShape& shape, bool count_include_pad, std::optional<int64_t> divisor_override) {
  check(shape.y.dilation == 1 && shape.x.dilation == 1, "window: expected a dilation of 1");
  check(divisor_override != 0, "divisor_override: expected an integer other than 0");
  return {divisor_override.value_or(0), count_include_pad};
}

/// Whether the only window is the image, and its sum divided by its size: then it is an adaptive pooling to one bin.
inline bool is_average_of_all(const PoolShape& shape, const PoolDivisor& divisor) {
  const auto is_all = [](const PoolAxis& axis) { return axis.kernel == axis.in && axis.padding == 0; };
  return divisor.fixed == 0 && is_all(shape.y) && is_all(shape.x);
}

inline AdaptiveShape one_bin(const PoolShape& shape) {
  return {shape.outer, shape.inner, {shape.y.in, 1}, {shape.x.in, 1}, shape.dtype};
}

inline ScalarType offsets_type(const PoolShape& shape) {
  return VISIONOPS_ISA::has_small_offsets(shape) ? ScalarType::Byte : ScalarType::Int;
}

/// `image` itself if it is dense in the layout, else a copy.
inline Tensor as_layout(const Tensor& image, bool channels_last) {
  using torch::headeronly::MemoryFormat;
  return channels_last ? torch::stable::contiguous(image, MemoryFormat::ChannelsLast) : as_contiguous(image);
}

/// Whether the sizes of two tensors are equal.
inline bool same_sizes(const Tensor& a, const Tensor& b) {
  if (a.dim() != b.dim()) return false;
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) != b.size(d)) return false;
  }
  return true;
}

}  // namespace visionops
