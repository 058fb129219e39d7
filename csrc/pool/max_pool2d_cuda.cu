// Max pooling on a GPU: a thread for each window, and in the gradient for each pixel.
#include "pool/max_pool2d_cuda.h"

#include <cmath>

#include "pool/pool_place.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Offsets are of type O; there are none if it is void.
template <class T, class O>
__global__ void find_maxima(PoolShape shape, int64_t count, const T* input, T* output, O* offsets) {
  using C = Compute<T>;
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolAxis &y = shape.y, &x = shape.x;
  const PoolPlace at(element, y.out, x.out, shape.inner);
  const PoolTaps rows(y, at.row), columns(x, at.column);
  const int64_t top = at.row * y.stride - y.padding, left = at.column * x.stride - x.padding;
  C best = -INFINITY;
  const bool has_taps = rows.begin < rows.end && columns.begin < columns.end;
  int64_t tap = has_taps ? rows.begin * x.kernel + columns.begin : 0;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const T* const row = input + (at.outer * y.in + top + r * y.dilation) * x.in * shape.inner + at.channel;
    for (int64_t c = columns.begin; c < columns.end; ++c) {
      const C value = to_compute(row[(left + c * x.dilation) * shape.inner]);
      if (is_better(value, best)) {
        best = value;
        tap = r * x.kernel + c;
      }
    }
  }
  output[element] = from_compute<T>(best);
  if constexpr (!std::is_void_v<O>) offsets[element] = static_cast<O>(tap);
}

template <class T, class O>
__global__ void collect(PoolShape shape, int64_t count, const T* grad, const O* offsets, T* grad_input) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolAxis &y = shape.y, &x = shape.x;
  const PoolPlace at(element, y.in, x.in, shape.inner);
  const PoolWindows rows(y, at.row), columns(x, at.column);
  Compute<T> sum = 0;
  for (int64_t p = rows.begin; p < rows.end; ++p) {
    const int64_t down = at.row + y.padding - p * y.stride, r = pool_axis_div(down, y.dilation);
    if (r * y.dilation != down) continue;
    for (int64_t q = columns.begin; q < columns.end; ++q) {
      const int64_t across = at.column + x.padding - q * x.stride, c = pool_axis_div(across, x.dilation);
      if (c * x.dilation != across) continue;
      const int64_t place = ((at.outer * y.out + p) * x.out + q) * shape.inner + at.channel;
      if (static_cast<int64_t>(offsets[place]) == r * x.kernel + c) sum += to_compute(grad[place]);
    }
  }
  grad_input[element] = from_compute<T>(sum);
}

/// The pixel y * x.in + x at which the tap of a window stands, or -1.
__device__ int64_t pixel_of(const PoolShape& shape, const PoolPlace& at, int64_t tap) {
  const PoolAxis &y = shape.y, &x = shape.x;
  if (tap < 0 || tap >= y.kernel * x.kernel) return -1;
  const int64_t r = pool_axis_div(tap, x.kernel);
  const int64_t row = at.row * y.stride - y.padding + r * y.dilation;
  const int64_t column = at.column * x.stride - x.padding + (tap - r * x.kernel) * x.dilation;
  return row >= 0 && row < y.in && column >= 0 && column < x.in ? row * x.in + column : -1;
}

template <class T, class O>
__global__ void take(PoolShape shape, int64_t count, const T* input, const O* offsets, T* output) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolPlace at(element, shape.y.out, shape.x.out, shape.inner);
  const int64_t pixel = pixel_of(shape, at, static_cast<int64_t>(offsets[element]));
  const int64_t pixels = shape.y.in * shape.x.in;
  output[element] = pixel < 0 ? T{} : input[(at.outer * pixels + pixel) * shape.inner + at.channel];
}

template <class O>
__global__ void name_pixels(PoolShape shape, int64_t count, const O* offsets, int64_t* indices) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolPlace at(element, shape.y.out, shape.x.out, shape.inner);
  indices[element] = pixel_of(shape, at, static_cast<int64_t>(offsets[element]));
}

int64_t windows_of(const PoolShape& shape) { return shape.outer * shape.y.out * shape.x.out * shape.inner; }

/// Calls f with the offsets in their type.
template <class F>
void visit_offsets(const PoolShape& shape, const void* offsets, F&& f) {
  if (has_small_offsets(shape)) {
    f(static_cast<const uint8_t*>(offsets));
  } else {
    f(static_cast<const int32_t*>(offsets));
  }
}

}  // namespace

void max_pool2d_cuda(const PoolShape& shape, const void* input, void* output, void* offsets, Stream stream) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = [&](auto* taps) {
      using O = std::remove_pointer_t<decltype(taps)>;
      launch_over(find_maxima<T, O>, windows_of(shape), stream, shape, windows_of(shape), static_cast<const T*>(input),
                  static_cast<T*>(output), taps);
    };
    if (offsets == nullptr) {
      run(offsets);
    } else if (has_small_offsets(shape)) {
      run(static_cast<uint8_t*>(offsets));
    } else {
      run(static_cast<int32_t*>(offsets));
    }
  });
}

void max_pool2d_backward_cuda(const PoolShape& shape, const void* grad, const void* offsets, void* grad_input,
                              Stream stream) {
  const int64_t count = shape.outer * shape.y.in * shape.x.in * shape.inner;
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    visit_offsets(shape, offsets, [&](const auto* taps) {
      using O = std::remove_const_t<std::remove_pointer_t<decltype(taps)>>;
      launch_over(collect<T, O>, count, stream, shape, count, static_cast<const T*>(grad), taps,
                  static_cast<T*>(grad_input));
    });
  });
}

void max_pool2d_taken_cuda(const PoolShape& shape, const void* input, const void* offsets, void* output,
                           Stream stream) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    visit_offsets(shape, offsets, [&](const auto* taps) {
      using O = std::remove_const_t<std::remove_pointer_t<decltype(taps)>>;
      launch_over(take<T, O>, windows_of(shape), stream, shape, windows_of(shape), static_cast<const T*>(input), taps,
                  static_cast<T*>(output));
    });
  });
}

void max_pool2d_indices_cuda(const PoolShape& shape, const void* offsets, int64_t* indices, Stream stream) {
  visit_offsets(shape, offsets, [&](const auto* taps) {
    using O = std::remove_const_t<std::remove_pointer_t<decltype(taps)>>;
    launch_over(name_pixels<O>, windows_of(shape), stream, shape, windows_of(shape), taps, indices);
  });
}

}  // namespace visionops::VISIONOPS_ISA
