// Tensors to pointers for room `pool`: schemas, the checks that memory safety needs, and registration.
#include "pool/pool_torch.h"

#include <new>
#include <tuple>

namespace visionops {
namespace {

constexpr int64_t kElementsPerTask = 8192;

// Memory for a thread's share of the work.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : data_(operator new(static_cast<size_t>(bytes), kAlignment)) {}
  ~Scratch() { operator delete(data_, kAlignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  void* data_;
};

// Calls body(scratch, begin, end) over all items.
template <class Body>
void run(const PoolWork& work, const Body& body) {
  parallel(work.items, kElementsPerTask / (work.elements + 1) + 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(work.scratch_bytes);
    body(scratch.data(), begin, end);
  });
}

// An image of the result's size, laid out as the image is.
Tensor empty_result(const PoolShape& shape, const Tensor& image, bool channels_last, ScalarType dtype) {
  return empty_image(image.size(0), image.size(1), shape.y.out, shape.x.out, channels_last, dtype);
}

Tensor max_pool2d_op(const Tensor& input, const Ints& window, bool ceil_mode) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const Tensor image = as_dense_image(input);
  const PoolShape shape = pool_shape_of(image, window, ceil_mode);
  Tensor output = empty_result(shape, image, is_channels_last(image), image.scalar_type());
  void* const data = output.mutable_data_ptr();
  run(max_pool2d_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    max_pool2d(shape, image.const_data_ptr(), data, nullptr, scratch, begin, end);
  });
  return output;
}

std::tuple<Tensor, Tensor> max_pool2d_with_offsets_op(const Tensor& input, const Ints& window, bool ceil_mode) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const Tensor image = as_dense_image(input);
  const bool channels_last = is_channels_last(image);
  const PoolShape shape = pool_shape_of(image, window, ceil_mode);
  Tensor output = empty_result(shape, image, channels_last, image.scalar_type());
  Tensor offsets = empty_result(shape, image, channels_last, offsets_type(shape));
  void *const data = output.mutable_data_ptr(), *const taps = offsets.mutable_data_ptr();
  run(max_pool2d_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    max_pool2d(shape, image.const_data_ptr(), data, taps, scratch, begin, end);
  });
  return {output, offsets};
}

Tensor max_pool2d_backward_op(const Tensor& grad, const Tensor& offsets, const Ints& size, const Ints& window) {
  check(offsets.dim() == 4, "offsets: expected shape (B, C, P, Q)");
  check(same_sizes(grad, offsets), "offsets: expected the shape of grad");
  const Tensor taps = as_dense_image(offsets);
  const bool channels_last = is_channels_last(taps);
  const Tensor values = as_layout(grad, channels_last);
  const PoolShape shape = pool_shape_to(taps, size, window, dtype_of(grad));
  check(offsets.scalar_type() == offsets_type(shape), "offsets: expected uint8, or int32 for more than 256 taps");
  Tensor out = empty_image(taps.size(0), taps.size(1), size[0], size[1], channels_last, grad.scalar_type());
  void* const data = out.mutable_data_ptr();
  run(max_pool2d_backward_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    max_pool2d_backward(shape, values.const_data_ptr(), taps.const_data_ptr(), data, scratch, begin, end);
  });
  return out;
}

Tensor max_pool2d_taken_op(const Tensor& input, const Tensor& offsets, const Ints& window) {
  check(input.dim() == 4 && offsets.dim() == 4, "input, offsets: expected shapes (B, C, H, W) and (B, C, P, Q)");
  check(input.size(0) == offsets.size(0) && input.size(1) == offsets.size(1), "input: expected as many as offsets");
  const Tensor taps = as_dense_image(offsets);
  const bool channels_last = is_channels_last(taps);
  const Tensor image = as_layout(input, channels_last);
  const PoolShape shape = pool_shape_to(taps, {input.size(2), input.size(3)}, window, dtype_of(input));
  check(offsets.scalar_type() == offsets_type(shape), "offsets: expected uint8, or int32 for more than 256 taps");
  Tensor out = empty_result(shape, taps, channels_last, input.scalar_type());
  void* const data = out.mutable_data_ptr();
  parallel(shape.outer * shape.y.out, kElementsPerTask / (shape.x.out * shape.inner + 1) + 1,
           [&](int64_t begin, int64_t end) {
             max_pool2d_taken(shape, image.const_data_ptr(), taps.const_data_ptr(), data, begin, end);
           });
  return out;
}

Tensor max_pool2d_indices_op(const Tensor& offsets, const Ints& size, const Ints& window) {
  check(offsets.dim() == 4, "offsets: expected shape (B, C, P, Q)");
  const Tensor taps = as_dense_image(offsets);
  const PoolShape shape = pool_shape_to(taps, size, window, DType::f32);
  check(offsets.scalar_type() == offsets_type(shape), "offsets: expected uint8, or int32 for more than 256 taps");
  Tensor out = empty_result(shape, taps, is_channels_last(taps), ScalarType::Long);
  auto* const data = static_cast<int64_t*>(out.mutable_data_ptr());
  parallel(shape.outer * shape.y.out, kElementsPerTask / (shape.x.out * shape.inner + 1) + 1,
           [&](int64_t begin, int64_t end) { max_pool2d_indices(shape, taps.const_data_ptr(), data, begin, end); });
  return out;
}

Tensor avg_pool2d_op(const Tensor& input, const Ints& window, bool ceil_mode, bool count_include_pad,
                     std::optional<int64_t> divisor_override) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const Tensor image = as_dense_image(input);
  const PoolShape shape = pool_shape_of(image, window, ceil_mode);
  const PoolDivisor divisor = divisor_of(shape, count_include_pad, divisor_override);
  Tensor output = empty_result(shape, image, is_channels_last(image), image.scalar_type());
  void* const data = output.mutable_data_ptr();
  if (is_average_of_all(shape, divisor)) {
    const AdaptiveShape one = one_bin(shape);
    run(adaptive_pool2d_work(one), [&](void* scratch, int64_t begin, int64_t end) {
      adaptive_avg_pool2d(one, image.const_data_ptr(), data, scratch, begin, end);
    });
    return output;
  }
  run(avg_pool2d_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    avg_pool2d(shape, divisor, image.const_data_ptr(), data, scratch, begin, end);
  });
  return output;
}

Tensor avg_pool2d_backward_op(const Tensor& grad, const Ints& size, const Ints& window, bool ceil_mode,
                              bool count_include_pad, std::optional<int64_t> divisor_override) {
  check(grad.dim() == 4, "grad: expected shape (B, C, P, Q)");
  const Tensor values = as_dense_image(grad);
  const PoolShape shape = pool_shape_to(values, size, window, dtype_of(grad));
  check(shape.y.out == pooled_size(shape.y, ceil_mode) && shape.x.out == pooled_size(shape.x, ceil_mode),
        "grad: expected as many windows as fit");
  const PoolDivisor divisor = divisor_of(shape, count_include_pad, divisor_override);
  Tensor out =
      empty_image(values.size(0), values.size(1), size[0], size[1], is_channels_last(values), grad.scalar_type());
  void* const data = out.mutable_data_ptr();
  if (is_average_of_all(shape, divisor)) {
    const AdaptiveShape one = one_bin(shape);
    run(adaptive_avg_pool2d_backward_work(one), [&](void* scratch, int64_t begin, int64_t end) {
      adaptive_avg_pool2d_backward(one, values.const_data_ptr(), data, scratch, begin, end);
    });
    return out;
  }
  run(avg_pool2d_backward_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    avg_pool2d_backward(shape, divisor, values.const_data_ptr(), data, scratch, begin, end);
  });
  return out;
}

Tensor max_unpool2d_op(const Tensor& input, const Tensor& indices, const Ints& size, bool adds) {
  check(input.dim() == 4, "input: expected shape (B, C, P, Q)");
  check(same_sizes(input, indices), "indices: expected the shape of input");
  const Tensor values = as_dense_image(input);
  const bool channels_last = is_channels_last(values);
  const Tensor places = as_layout(indices, channels_last);
  const UnpoolShape shape = unpool_shape(values, indices, size, dtype_of(input));
  Tensor out = empty_image(input.size(0), input.size(1), size[0], size[1], channels_last, input.scalar_type());
  void* const data = out.mutable_data_ptr();
  const auto* const at = static_cast<const int64_t*>(places.const_data_ptr());
  run(max_unpool2d_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    max_unpool2d(shape, values.const_data_ptr(), at, adds, data, scratch, begin, end);
  });
  return out;
}

Tensor max_unpool2d_taken_op(const Tensor& image, const Tensor& indices) {
  check(image.dim() == 4 && indices.dim() == 4, "image, indices: expected shapes (B, C, H, W) and (B, C, P, Q)");
  check(image.size(0) == indices.size(0) && image.size(1) == indices.size(1), "image: expected as many as indices");
  const Tensor places = as_dense_image(indices);
  const bool channels_last = is_channels_last(places);
  const Tensor values = as_layout(image, channels_last);
  const UnpoolShape shape = unpool_shape(places, indices, {image.size(2), image.size(3)}, dtype_of(image));
  Tensor out = empty_image(indices.size(0), indices.size(1), indices.size(2), indices.size(3), channels_last,
                           image.scalar_type());
  void* const data = out.mutable_data_ptr();
  const auto* const at = static_cast<const int64_t*>(places.const_data_ptr());
  parallel(shape.outer * shape.windows, kElementsPerTask / (shape.inner + 1) + 1, [&](int64_t begin, int64_t end) {
    max_unpool2d_taken(shape, values.const_data_ptr(), at, data, begin, end);
  });
  return out;
}

Tensor adaptive_avg_pool2d_op(const Tensor& input, const Ints& size) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const Tensor image = as_dense_image(input);
  const AdaptiveShape shape = adaptive_shape(image, {input.size(2), input.size(3)}, size);
  Tensor out =
      empty_image(input.size(0), input.size(1), size[0], size[1], is_channels_last(image), input.scalar_type());
  void* const data = out.mutable_data_ptr();
  run(adaptive_pool2d_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    adaptive_avg_pool2d(shape, image.const_data_ptr(), data, scratch, begin, end);
  });
  return out;
}

std::tuple<Tensor, Tensor> adaptive_max_pool2d_op(const Tensor& input, const Ints& size) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  const Tensor image = as_dense_image(input);
  const bool channels_last = is_channels_last(image);
  const AdaptiveShape shape = adaptive_shape(image, {input.size(2), input.size(3)}, size);
  Tensor out = empty_image(input.size(0), input.size(1), size[0], size[1], channels_last, input.scalar_type());
  Tensor indices = empty_image(input.size(0), input.size(1), size[0], size[1], channels_last, ScalarType::Long);
  void* const data = out.mutable_data_ptr();
  auto* const at = static_cast<int64_t*>(indices.mutable_data_ptr());
  run(adaptive_pool2d_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    adaptive_max_pool2d(shape, image.const_data_ptr(), data, at, scratch, begin, end);
  });
  return {out, indices};
}

Tensor adaptive_max_pool2d_backward_op(const Tensor& grad, const Tensor& indices, const Ints& size) {
  return max_unpool2d_op(grad, indices, size, true);
}

Tensor adaptive_avg_pool2d_backward_op(const Tensor& grad, const Ints& size) {
  check(grad.dim() == 4, "grad: expected shape (B, C, P, Q)");
  const Tensor values = as_dense_image(grad);
  const AdaptiveShape shape = adaptive_shape(values, size, {grad.size(2), grad.size(3)});
  Tensor out = empty_image(grad.size(0), grad.size(1), size[0], size[1], is_channels_last(values), grad.scalar_type());
  void* const data = out.mutable_data_ptr();
  run(adaptive_avg_pool2d_backward_work(shape), [&](void* scratch, int64_t begin, int64_t end) {
    adaptive_avg_pool2d_backward(shape, values.const_data_ptr(), data, scratch, begin, end);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) { define_pool(m, "_native"); }

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("max_pool2d_native", TORCH_BOX(&max_pool2d_op));
  m.impl("max_pool2d_with_offsets_native", TORCH_BOX(&max_pool2d_with_offsets_op));
  m.impl("max_pool2d_backward_native", TORCH_BOX(&max_pool2d_backward_op));
  m.impl("max_pool2d_taken_native", TORCH_BOX(&max_pool2d_taken_op));
  m.impl("max_pool2d_indices_native", TORCH_BOX(&max_pool2d_indices_op));
  m.impl("avg_pool2d_native", TORCH_BOX(&avg_pool2d_op));
  m.impl("avg_pool2d_backward_native", TORCH_BOX(&avg_pool2d_backward_op));
  m.impl("max_unpool2d_native", TORCH_BOX(&max_unpool2d_op));
  m.impl("max_unpool2d_taken_native", TORCH_BOX(&max_unpool2d_taken_op));
  m.impl("adaptive_avg_pool2d_native", TORCH_BOX(&adaptive_avg_pool2d_op));
  m.impl("adaptive_avg_pool2d_backward_native", TORCH_BOX(&adaptive_avg_pool2d_backward_op));
  m.impl("adaptive_max_pool2d_native", TORCH_BOX(&adaptive_max_pool2d_op));
  m.impl("adaptive_max_pool2d_backward_native", TORCH_BOX(&adaptive_max_pool2d_backward_op));
}

}  // namespace visionops
