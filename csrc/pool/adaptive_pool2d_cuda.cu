// Adaptive pooling on a GPU: a thread for each bin, or a warp where pixels lie one beside the other; a thread for each
// pixel in the gradients.
#include "pool/adaptive_pool2d_cuda.h"

#include "pool/max_pool2d.h"
#include "pool/pool_place.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Of `lanes` threads that share a bin this one's sum: every lanes-th pixel, row-major.
template <class T>
__device__ Compute<T> sum_of_bin(const AdaptiveShape& shape, const PoolPlace& at, const T* input, int lane, int lanes) {
  const AdaptiveBin rows(shape.y, at.row), columns(shape.x, at.column);
  const int64_t width = columns.end - columns.begin;
  Compute<T> sum = 0;
  for (int64_t i = lane; i < (rows.end - rows.begin) * width; i += lanes) {
    const int64_t row = rows.begin + i / width, column = columns.begin + i % width;
    sum += to_compute(input[((at.outer * shape.y.in + row) * shape.x.in + column) * shape.inner + at.channel]);
  }
  return sum;
}

template <class T>
__device__ void store_average(const AdaptiveShape& shape, const PoolPlace& at, Compute<T> sum, T& output) {
  const AdaptiveBin rows(shape.y, at.row), columns(shape.x, at.column);
  const auto pixels = static_cast<Compute<T>>((rows.end - rows.begin) * (columns.end - columns.begin));
  output = from_compute<T>(sum / pixels);
}

template <class T>
__global__ void average_by_threads(AdaptiveShape shape, int64_t count, const T* input, T* output) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolPlace at(element, shape.y.out, shape.x.out, shape.inner);
  store_average(shape, at, sum_of_bin(shape, at, input, 0, 1), output[element]);
}

template <class T>
__global__ void average_by_warps(AdaptiveShape shape, int64_t count, const T* input, T* output) {
  const int64_t element = pool_thread() / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (element >= count) return;
  const PoolPlace at(element, shape.y.out, shape.x.out, shape.inner);
  Compute<T> sum = sum_of_bin(shape, at, input, lane, kWarp);
  for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_sync(~0u, sum, lane ^ step);
  if (lane == 0) store_average(shape, at, sum, output[element]);
}

template <class T>
__global__ void spread(AdaptiveShape shape, int64_t count, const T* grad, T* grad_input) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolPlace at(element, shape.y.in, shape.x.in, shape.inner);
  const AdaptiveBins down(shape.y, at.row), across(shape.x, at.column);
  Compute<T> sum = 0;
  for (int64_t p = down.begin; p < down.end; ++p) {
    const AdaptiveBin rows(shape.y, p);
    for (int64_t q = across.begin; q < across.end; ++q) {
      const AdaptiveBin columns(shape.x, q);
      const int64_t place = ((at.outer * shape.y.out + p) * shape.x.out + q) * shape.inner + at.channel;
      const auto pixels = static_cast<Compute<T>>((rows.end - rows.begin) * (columns.end - columns.begin));
      sum += to_compute(grad[place]) / pixels;
    }
  }
  grad_input[element] = from_compute<T>(sum);
}

template <class T>
__global__ void find_maxima(AdaptiveShape shape, int64_t count, const T* input, T* output, int64_t* indices) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolPlace at(element, shape.y.out, shape.x.out, shape.inner);
  const AdaptiveBin rows(shape.y, at.row), columns(shape.x, at.column);
  const T* const image = input + at.outer * shape.y.in * shape.x.in * shape.inner + at.channel;
  int64_t index = rows.begin * shape.x.in + columns.begin;
  Compute<T> best = to_compute(image[index * shape.inner]);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t column = columns.begin; column < columns.end; ++column) {
      const int64_t pixel = row * shape.x.in + column;
      const Compute<T> value = to_compute(image[pixel * shape.inner]);
      if (is_better(value, best)) {
        best = value;
        index = pixel;
      }
    }
  }
  output[element] = from_compute<T>(best);
  indices[element] = index;
}

template <class T>
__global__ void collect(AdaptiveShape shape, int64_t count, const T* grad, const int64_t* indices, T* grad_input) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolPlace at(element, shape.y.in, shape.x.in, shape.inner);
  const AdaptiveBins down(shape.y, at.row), across(shape.x, at.column);
  Compute<T> sum = 0;
  for (int64_t p = down.begin; p < down.end; ++p) {
    for (int64_t q = across.begin; q < across.end; ++q) {
      const int64_t place = ((at.outer * shape.y.out + p) * shape.x.out + q) * shape.inner + at.channel;
      if (indices[place] == at.row * shape.x.in + at.column) sum += to_compute(grad[place]);
    }
  }
  grad_input[element] = from_compute<T>(sum);
}

int64_t bins_of(const AdaptiveShape& shape) { return shape.outer * shape.y.out * shape.x.out * shape.inner; }

int64_t pixels_of(const AdaptiveShape& shape) { return shape.outer * shape.y.in * shape.x.in * shape.inner; }

}  // namespace

void adaptive_avg_pool2d_cuda(const AdaptiveShape& shape, const void* input, void* output, Stream stream) {
  const int64_t count = bins_of(shape);
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(input);
    if (shape.inner == 1) {
      launch_over(average_by_warps<T>, count * kWarp, stream, shape, count, from, static_cast<T*>(output));
    } else {
      launch_over(average_by_threads<T>, count, stream, shape, count, from, static_cast<T*>(output));
    }
  });
}

void adaptive_avg_pool2d_backward_cuda(const AdaptiveShape& shape, const void* grad, void* grad_input, Stream stream) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch_over(spread<T>, pixels_of(shape), stream, shape, pixels_of(shape), static_cast<const T*>(grad),
                static_cast<T*>(grad_input));
  });
}

void adaptive_max_pool2d_cuda(const AdaptiveShape& shape, const void* input, void* output, int64_t* indices,
                              Stream stream) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch_over(find_maxima<T>, bins_of(shape), stream, shape, bins_of(shape), static_cast<const T*>(input),
                static_cast<T*>(output), indices);
  });
}

void adaptive_max_pool2d_backward_cuda(const AdaptiveShape& shape, const void* grad, const int64_t* indices,
                                       void* grad_input, Stream stream) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch_over(collect<T>, pixels_of(shape), stream, shape, pixels_of(shape), static_cast<const T*>(grad), indices,
                static_cast<T*>(grad_input));
  });
}

}  // namespace visionops::VISIONOPS_ISA
