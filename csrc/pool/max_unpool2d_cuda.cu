// Unpooling on a GPU: the last window that names a pixel is found first, then each pixel takes that window's value.
#include "pool/max_unpool2d_cuda.h"

#include "pool/pool_place.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// The element of images at a pixel of the plane that element `window` of values belongs to; -1 if it names none.
__device__ int64_t element_of(const UnpoolShape& shape, int64_t window, const int64_t* indices) {
  const int64_t index = indices[window];
  if (index < 0 || index >= shape.pixels) return -1;
  const PoolPlace at(window, 1, shape.windows, shape.inner);
  return (at.outer * shape.pixels + index) * shape.inner + at.channel;
}

template <class E>
__global__ void fill(E* values, E value, int64_t count) {
  const int64_t i = pool_thread();
  if (i < count) values[i] = value;
}

/// Windows are numbered within their plane.
__global__ void elect(UnpoolShape shape, int64_t count, const int64_t* indices, int32_t* last) {
  const int64_t window = pool_thread();
  if (window >= count) return;
  const int64_t element = element_of(shape, window, indices);
  if (element < 0) return;
  atomicMax(last + element, static_cast<int32_t>(PoolPlace(window, 1, shape.windows, shape.inner).column));
}

template <class T>
__global__ void take_elected(UnpoolShape shape, int64_t count, const T* values, const int32_t* last, T* images) {
  const int64_t element = pool_thread();
  if (element >= count) return;
  const PoolPlace at(element, 1, shape.pixels, shape.inner);
  const int64_t window = (at.outer * shape.windows + last[element]) * shape.inner + at.channel;
  images[element] = last[element] < 0 ? T{} : values[window];
}

template <class T>
__global__ void add_planes(UnpoolShape shape, const T* values, const int64_t* indices, Compute<T>* sums) {
  const int64_t plane = pool_thread();
  if (plane >= shape.outer * shape.inner) return;
  const int64_t first = plane / shape.inner * shape.windows * shape.inner + plane % shape.inner;
  for (int64_t i = 0; i < shape.windows; ++i) {
    const int64_t window = first + i * shape.inner, element = element_of(shape, window, indices);
    if (element >= 0) sums[element] += to_compute(values[window]);
  }
}

template <class T>
__global__ void narrow_all(int64_t count, const Compute<T>* from, T* to) {
  const int64_t i = pool_thread();
  if (i < count) to[i] = from_compute<T>(from[i]);
}

template <class T>
__global__ void take(UnpoolShape shape, int64_t count, const T* images, const int64_t* indices, T* values) {
  const int64_t window = pool_thread();
  if (window >= count) return;
  const int64_t element = element_of(shape, window, indices);
  values[window] = element < 0 ? T{} : images[element];
}

bool is_narrow(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

int64_t pixels_of(const UnpoolShape& shape) { return shape.outer * shape.pixels * shape.inner; }

}  // namespace

int64_t max_unpool2d_cuda_scratch_bytes(const UnpoolShape& shape, bool adds) {
  return adds && !is_narrow(shape.dtype) ? 0 : pixels_of(shape) * 4;
}

void max_unpool2d_cuda(const UnpoolShape& shape, const void* values, const int64_t* indices, bool adds, void* images,
                       void* scratch, Stream stream) {
  const int64_t pixels = pixels_of(shape), windows = shape.outer * shape.windows * shape.inner;
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    const auto* const from = static_cast<const T*>(values);
    auto* const to = static_cast<T*>(images);
    if (!adds) {
      auto* const last = static_cast<int32_t*>(scratch);
      launch_over(fill<int32_t>, pixels, stream, last, int32_t{-1}, pixels);
      launch_over(elect, windows, stream, shape, windows, indices, last);
      launch_over(take_elected<T>, pixels, stream, shape, pixels, from, static_cast<const int32_t*>(last), to);
      return;
    }
    auto* const sums = static_cast<C*>(is_narrow(shape.dtype) ? scratch : images);
    launch_over(fill<C>, pixels, stream, sums, C{0}, pixels);
    launch_over(add_planes<T>, shape.outer * shape.inner, stream, shape, from, indices, sums);
    if constexpr (!std::is_same_v<T, C>) {
      launch_over(narrow_all<T>, pixels, stream, pixels, static_cast<const C*>(sums), to);
    }
  });
}

void max_unpool2d_taken_cuda(const UnpoolShape& shape, const void* images, const int64_t* indices, void* values,
                             Stream stream) {
  const int64_t count = shape.outer * shape.windows * shape.inner;
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch_over(take<T>, count, stream, shape, count, static_cast<const T*>(images), indices, static_cast<T*>(values));
  });
}

}  // namespace visionops::VISIONOPS_ISA
