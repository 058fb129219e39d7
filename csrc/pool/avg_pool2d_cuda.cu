// Average pooling on a GPU: a thread for each window, and in the gradient for each pixel.
#include "pool/avg_pool2d_cuda.h"

#include "pool/pool_place.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

template <class T>
__global__ void average(PoolShape shape, PoolDivisor divisor, int64_t count, const T* input, T* output) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolAxis &y = shape.y, &x = shape.x;
  const PoolPlace at(element, y.out, x.out, shape.inner);
  const PoolTaps rows(y, at.row), columns(x, at.column);
  const int64_t top = at.row * y.stride - y.padding, left = at.column * x.stride - x.padding;
  Compute<T> sum = 0;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const T* const row = input + ((at.outer * y.in + top + r) * x.in + left) * shape.inner + at.channel;
    for (int64_t c = columns.begin; c < columns.end; ++c) sum += to_compute(row[c * shape.inner]);
  }
  const auto counted = static_cast<Compute<T>>(pool_divisor(shape, divisor, at.row, at.column));
  output[element] = from_compute<T>(sum / counted);
}

template <class T>
__global__ void spread(PoolShape shape, PoolDivisor divisor, int64_t count, const T* grad, T* grad_input) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolAxis &y = shape.y, &x = shape.x;
  const PoolPlace at(element, y.in, x.in, shape.inner);
  const PoolWindows rows(y, at.row), columns(x, at.column);
  Compute<T> sum = 0;
  for (int64_t p = rows.begin; p < rows.end; ++p) {
    const T* const row = grad + (at.outer * y.out + p) * x.out * shape.inner + at.channel;
    for (int64_t q = columns.begin; q < columns.end; ++q) {
      sum += to_compute(row[q * shape.inner]) / static_cast<Compute<T>>(pool_divisor(shape, divisor, p, q));
    }
  }
  grad_input[element] = from_compute<T>(sum);
}

}  // namespace

void avg_pool2d_cuda(const PoolShape& shape, const PoolDivisor& divisor, const void* input, void* output,
                     Stream stream) {
  const int64_t count = shape.outer * shape.y.out * shape.x.out * shape.inner;
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch_over(average<T>, count, stream, shape, divisor, count, static_cast<const T*>(input),
                static_cast<T*>(output));
  });
}

void avg_pool2d_backward_cuda(const PoolShape& shape, const PoolDivisor& divisor, const void* grad, void* grad_input,
                              Stream stream) {
  const int64_t count = shape.outer * shape.y.in * shape.x.in * shape.inner;
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch_over(spread<T>, count, stream, shape, divisor, count, static_cast<const T*>(grad),
                static_cast<T*>(grad_input));
  });
}

}  // namespace visionops::VISIONOPS_ISA
