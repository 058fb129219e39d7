// Tensors to pointers for room `pool` on a GPU, and registration; emulated, the same as operations on the CPU.
#include <optional>
#include <tuple>

#include "common/device_torch.cuh"
#include "pool/adaptive_pool2d_cuda.h"
#include "pool/avg_pool2d_cuda.h"
#include "pool/max_pool2d_cuda.h"
#include "pool/max_unpool2d_cuda.h"
#include "pool/pool_torch.h"

namespace visionops {
namespace {

using namespace VISIONOPS_ISA;

Tensor empty_result(const PoolShape& shape, const Tensor& image, ScalarType dtype) {
  return empty_image_on(image, image.size(0), image.size(1), shape.y.out, shape.x.out, is_channels_last(image), dtype);
}

Tensor max_pool2d_op(const Tensor& input, const Ints& window, bool ceil_mode) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const DeviceGuard guard(input);
  const Tensor image = as_dense_image(input);
  const PoolShape shape = pool_shape_of(image, window, ceil_mode);
  Tensor output = empty_result(shape, image, image.scalar_type());
  max_pool2d_cuda(shape, image.const_data_ptr(), output.mutable_data_ptr(), nullptr, current_stream(image));
  return output;
}

std::tuple<Tensor, Tensor> max_pool2d_with_offsets_op(const Tensor& input, const Ints& window, bool ceil_mode) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const DeviceGuard guard(input);
  const Tensor image = as_dense_image(input);
  const PoolShape shape = pool_shape_of(image, window, ceil_mode);
  Tensor output = empty_result(shape, image, image.scalar_type());
  Tensor offsets = empty_result(shape, image, offsets_type(shape));
  max_pool2d_cuda(shape, image.const_data_ptr(), output.mutable_data_ptr(), offsets.mutable_data_ptr(),
                  current_stream(image));
  return {output, offsets};
}

Tensor max_pool2d_backward_op(const Tensor& grad, const Tensor& offsets, const Ints& size, const Ints& window) {
  check(offsets.dim() == 4, "offsets: expected shape (B, C, P, Q)");
  check(same_sizes(grad, offsets), "offsets: expected the shape of grad");
  const DeviceGuard guard(grad);
  const Tensor taps = as_dense_image(offsets);
  const bool channels_last = is_channels_last(taps);
  const Tensor values = as_layout(grad, channels_last);
  const PoolShape shape = pool_shape_to(taps, size, window, dtype_of(grad));
  check(offsets.scalar_type() == offsets_type(shape), "offsets: expected uint8, or int32 for more than 256 taps");
  Tensor out = empty_image_on(taps, taps.size(0), taps.size(1), size[0], size[1], channels_last, grad.scalar_type());
  max_pool2d_backward_cuda(shape, values.const_data_ptr(), taps.const_data_ptr(), out.mutable_data_ptr(),
                           current_stream(grad));
  return out;
}

Tensor max_pool2d_taken_op(const Tensor& input, const Tensor& offsets, const Ints& window) {
  check(input.dim() == 4 && offsets.dim() == 4, "input, offsets: expected shapes (B, C, H, W) and (B, C, P, Q)");
  check(input.size(0) == offsets.size(0) && input.size(1) == offsets.size(1), "input: expected as many as offsets");
  const DeviceGuard guard(input);
  const Tensor taps = as_dense_image(offsets);
  const Tensor image = as_layout(input, is_channels_last(taps));
  const PoolShape shape = pool_shape_to(taps, {input.size(2), input.size(3)}, window, dtype_of(input));
  check(offsets.scalar_type() == offsets_type(shape), "offsets: expected uint8, or int32 for more than 256 taps");
  Tensor out = empty_result(shape, taps, input.scalar_type());
  max_pool2d_taken_cuda(shape, image.const_data_ptr(), taps.const_data_ptr(), out.mutable_data_ptr(),
                        current_stream(input));
  return out;
}

Tensor max_pool2d_indices_op(const Tensor& offsets, const Ints& size, const Ints& window) {
  check(offsets.dim() == 4, "offsets: expected shape (B, C, P, Q)");
  const DeviceGuard guard(offsets);
  const Tensor taps = as_dense_image(offsets);
  const PoolShape shape = pool_shape_to(taps, size, window, DType::f32);
  check(offsets.scalar_type() == offsets_type(shape), "offsets: expected uint8, or int32 for more than 256 taps");
  Tensor out = empty_result(shape, taps, ScalarType::Long);
  max_pool2d_indices_cuda(shape, taps.const_data_ptr(), static_cast<int64_t*>(out.mutable_data_ptr()),
                          current_stream(offsets));
  return out;
}

Tensor avg_pool2d_op(const Tensor& input, const Ints& window, bool ceil_mode, bool count_include_pad,
                     std::optional<int64_t> divisor_override) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const DeviceGuard guard(input);
  const Tensor image = as_dense_image(input);
  const PoolShape shape = pool_shape_of(image, window, ceil_mode);
  const PoolDivisor divisor = divisor_of(shape, count_include_pad, divisor_override);
  Tensor out = empty_result(shape, image, image.scalar_type());
  if (is_average_of_all(shape, divisor)) {
    adaptive_avg_pool2d_cuda(one_bin(shape), image.const_data_ptr(), out.mutable_data_ptr(), current_stream(image));
  } else {
    avg_pool2d_cuda(shape, divisor, image.const_data_ptr(), out.mutable_data_ptr(), current_stream(image));
  }
  return out;
}

Tensor avg_pool2d_backward_op(const Tensor& grad, const Ints& size, const Ints& window, bool ceil_mode,
                              bool count_include_pad, std::optional<int64_t> divisor_override) {
  check(grad.dim() == 4, "grad: expected shape (B, C, P, Q)");
  const DeviceGuard guard(grad);
  const Tensor values = as_dense_image(grad);
  const PoolShape shape = pool_shape_to(values, size, window, dtype_of(grad));
  check(shape.y.out == pooled_size(shape.y, ceil_mode) && shape.x.out == pooled_size(shape.x, ceil_mode),
        "grad: expected as many windows as fit");
  const PoolDivisor divisor = divisor_of(shape, count_include_pad, divisor_override);
  Tensor out = empty_image_on(values, values.size(0), values.size(1), size[0], size[1], is_channels_last(values),
                              grad.scalar_type());
  avg_pool2d_backward_cuda(shape, divisor, values.const_data_ptr(), out.mutable_data_ptr(), current_stream(grad));
  return out;
}

Tensor max_unpool2d_op(const Tensor& input, const Tensor& indices, const Ints& size, bool adds) {
  check(input.dim() == 4, "input: expected shape (B, C, P, Q)");
  check(same_sizes(input, indices), "indices: expected the shape of input");
  const DeviceGuard guard(input);
  const Tensor values = as_dense_image(input);
  const bool channels_last = is_channels_last(values);
  const Tensor places = as_layout(indices, channels_last);
  const UnpoolShape shape = unpool_shape(values, indices, size, dtype_of(input));
  check(shape.windows < int64_t{1} << 31, "input: expected fewer than 2^31 windows in a plane");
  Tensor out =
      empty_image_on(values, values.size(0), values.size(1), size[0], size[1], channels_last, input.scalar_type());
  Tensor scratch = empty_on(values, {max_unpool2d_cuda_scratch_bytes(shape, adds)}, ScalarType::Byte);
  max_unpool2d_cuda(shape, values.const_data_ptr(), static_cast<const int64_t*>(places.const_data_ptr()), adds,
                    out.mutable_data_ptr(), scratch.mutable_data_ptr(), current_stream(input));
  return out;
}

Tensor max_unpool2d_taken_op(const Tensor& image, const Tensor& indices) {
  check(image.dim() == 4 && indices.dim() == 4, "image, indices: expected shapes (B, C, H, W) and (B, C, P, Q)");
  check(image.size(0) == indices.size(0) && image.size(1) == indices.size(1), "image: expected as many as indices");
  const DeviceGuard guard(image);
  const Tensor places = as_dense_image(indices);
  const bool channels_last = is_channels_last(places);
  const Tensor values = as_layout(image, channels_last);
  const UnpoolShape shape = unpool_shape(places, indices, {image.size(2), image.size(3)}, dtype_of(image));
  Tensor out = empty_image_on(places, places.size(0), places.size(1), indices.size(2), indices.size(3), channels_last,
                              image.scalar_type());
  max_unpool2d_taken_cuda(shape, values.const_data_ptr(), static_cast<const int64_t*>(places.const_data_ptr()),
                          out.mutable_data_ptr(), current_stream(image));
  return out;
}

Tensor adaptive_avg_pool2d_op(const Tensor& input, const Ints& size) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const DeviceGuard guard(input);
  const Tensor image = as_dense_image(input);
  const AdaptiveShape shape = adaptive_shape(image, {input.size(2), input.size(3)}, size);
  Tensor out = empty_image_on(image, image.size(0), image.size(1), size[0], size[1], is_channels_last(image),
                              input.scalar_type());
  adaptive_avg_pool2d_cuda(shape, image.const_data_ptr(), out.mutable_data_ptr(), current_stream(input));
  return out;
}

Tensor adaptive_avg_pool2d_backward_op(const Tensor& grad, const Ints& size) {
  check(grad.dim() == 4, "grad: expected shape (B, C, P, Q)");
  const DeviceGuard guard(grad);
  const Tensor values = as_dense_image(grad);
  const AdaptiveShape shape = adaptive_shape(values, size, {grad.size(2), grad.size(3)});
  Tensor out = empty_image_on(values, values.size(0), values.size(1), size[0], size[1], is_channels_last(values),
                              grad.scalar_type());
  adaptive_avg_pool2d_backward_cuda(shape, values.const_data_ptr(), out.mutable_data_ptr(), current_stream(grad));
  return out;
}

std::tuple<Tensor, Tensor> adaptive_max_pool2d_op(const Tensor& input, const Ints& size) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const DeviceGuard guard(input);
  const Tensor image = as_dense_image(input);
  const bool channels_last = is_channels_last(image);
  const AdaptiveShape shape = adaptive_shape(image, {input.size(2), input.size(3)}, size);
  Tensor out =
      empty_image_on(image, image.size(0), image.size(1), size[0], size[1], channels_last, input.scalar_type());
  Tensor indices =
      empty_image_on(image, image.size(0), image.size(1), size[0], size[1], channels_last, ScalarType::Long);
  adaptive_max_pool2d_cuda(shape, image.const_data_ptr(), out.mutable_data_ptr(),
                           static_cast<int64_t*>(indices.mutable_data_ptr()), current_stream(input));
  return {out, indices};
}

Tensor adaptive_max_pool2d_backward_op(const Tensor& grad, const Tensor& indices, const Ints& size) {
  check(grad.dim() == 4, "grad: expected shape (B, C, P, Q)");
  check(same_sizes(grad, indices), "indices: expected the shape of grad");
  check(indices.scalar_type() == ScalarType::Long, "indices: expected int64");
  const DeviceGuard guard(grad);
  const Tensor values = as_dense_image(grad);
  const bool channels_last = is_channels_last(values);
  const Tensor places = as_layout(indices, channels_last);
  const AdaptiveShape shape = adaptive_shape(values, size, {grad.size(2), grad.size(3)});
  Tensor out =
      empty_image_on(values, values.size(0), values.size(1), size[0], size[1], channels_last, grad.scalar_type());
  adaptive_max_pool2d_backward_cuda(shape, values.const_data_ptr(),
                                    static_cast<const int64_t*>(places.const_data_ptr()), out.mutable_data_ptr(),
                                    current_stream(grad));
  return out;
}

void implement(torch::stable::detail::StableLibrary& m, const std::string& suffix) {
  const auto name = [&](const char* stem) { return stem + suffix; };
  m.impl(name("max_pool2d").c_str(), TORCH_BOX(&max_pool2d_op));
  m.impl(name("max_pool2d_with_offsets").c_str(), TORCH_BOX(&max_pool2d_with_offsets_op));
  m.impl(name("max_pool2d_backward").c_str(), TORCH_BOX(&max_pool2d_backward_op));
  m.impl(name("max_pool2d_taken").c_str(), TORCH_BOX(&max_pool2d_taken_op));
  m.impl(name("max_pool2d_indices").c_str(), TORCH_BOX(&max_pool2d_indices_op));
  m.impl(name("avg_pool2d").c_str(), TORCH_BOX(&avg_pool2d_op));
  m.impl(name("avg_pool2d_backward").c_str(), TORCH_BOX(&avg_pool2d_backward_op));
  m.impl(name("max_unpool2d").c_str(), TORCH_BOX(&max_unpool2d_op));
  m.impl(name("max_unpool2d_taken").c_str(), TORCH_BOX(&max_unpool2d_taken_op));
  m.impl(name("adaptive_avg_pool2d").c_str(), TORCH_BOX(&adaptive_avg_pool2d_op));
  m.impl(name("adaptive_avg_pool2d_backward").c_str(), TORCH_BOX(&adaptive_avg_pool2d_backward_op));
  m.impl(name("adaptive_max_pool2d").c_str(), TORCH_BOX(&adaptive_max_pool2d_op));
  m.impl(name("adaptive_max_pool2d_backward").c_str(), TORCH_BOX(&adaptive_max_pool2d_backward_op));
}

}  // namespace

#ifdef VISIONOPS_EMULATION
STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) { define_pool(m, "_emulated"); }

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) { implement(m, "_emulated"); }
#else
STABLE_TORCH_LIBRARY_IMPL(visionops, CUDA, m) { implement(m, "_native"); }
#endif

}  // namespace visionops
