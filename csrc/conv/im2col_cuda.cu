// im2col and col2im on a GPU: neighbouring threads write neighbouring values, in both directions.
#include "conv/im2col_cuda.h"

namespace visionops::VISIONOPS_ISA {
namespace {

#ifdef VISIONOPS_EMULATION
constexpr int kThreads = 96;
#else
constexpr int kThreads = 256;
#endif

/// The number of this thread among all.
__device__ int64_t thread() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

/// A thread for each position of each plane: one value of every row of that plane's columns.
template <class T>
__global__ void read_windows(ColumnsProblem p, const T* image, ImageStrides strides, T* columns) {
  const int64_t plane_size = p.out_height * p.out_width, element = thread();
  if (element >= p.batch * p.channels * plane_size) return;
  const Window& w = p.window;
  const int64_t plane = element / plane_size, at = element % plane_size;
  const int64_t top = at / p.out_width * w.stride_h - w.pad_h, left = at % p.out_width * w.stride_w - w.pad_w;
  image += plane / p.channels * strides.batch + plane % p.channels * strides.channel;
  columns += plane * w.kernel_h * w.kernel_w * plane_size + at;
  for (int64_t i = 0; i < w.kernel_h; ++i) {
    const int64_t y = top + i * w.dilation_h;
    for (int64_t j = 0; j < w.kernel_w; ++j, columns += plane_size) {
      const int64_t x = left + j * w.dilation_w;
      const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
      *columns = inside ? image[y * strides.row + x * strides.column] : T{};
    }
  }
}

/// A thread for each pixel: it gathers what was copied from it, in the order of the taps.
template <class T>
__global__ void gather_pixels(ColumnsProblem p, const T* columns, T* image) {
  const int64_t plane_size = p.out_height * p.out_width, pixels = p.height * p.width, element = thread();
  if (element >= p.batch * p.channels * pixels) return;
  const Window& w = p.window;
  const int64_t y = element % pixels / p.width + w.pad_h, x = element % p.width + w.pad_w;
  columns += element / pixels * w.kernel_h * w.kernel_w * plane_size;
  Compute<T> sum = 0;
  for (int64_t i = 0; i < w.kernel_h; ++i) {
    const int64_t down = y - i * w.dilation_h, row = down / w.stride_h;
    if (down < 0 || down % w.stride_h != 0 || row >= p.out_height) continue;
    for (int64_t j = 0; j < w.kernel_w; ++j) {
      const int64_t right = x - j * w.dilation_w, column = right / w.stride_w;
      if (right < 0 || right % w.stride_w != 0 || column >= p.out_width) continue;
      sum += to_compute(columns[(i * w.kernel_w + j) * plane_size + row * p.out_width + column]);
    }
  }
  image[element] = from_compute<T>(sum);
}

}  // namespace

void im2col_cuda(const ColumnsProblem& problem, const void* image, const ImageStrides& strides, void* columns,
                 Stream stream) {
  const int64_t count = problem.batch * problem.channels * problem.out_height * problem.out_width;
  // Values are only moved: their size is all that matters.
  const auto run = [&](auto value) {
    using T = decltype(value);
    launch(read_windows<T>, blocks_of(count, kThreads), kThreads, stream, problem, static_cast<const T*>(image),
           strides, static_cast<T*>(columns));
  };
  switch (problem.dtype) {
    case DType::f64: return run(uint64_t{});
    case DType::f32: return run(uint32_t{});
    default: return run(uint16_t{});
  }
}

void col2im_cuda(const ColumnsProblem& problem, const void* columns, void* image, Stream stream) {
  const int64_t count = problem.batch * problem.channels * problem.height * problem.width;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(gather_pixels<T>, blocks_of(count, kThreads), kThreads, stream, problem, static_cast<const T*>(columns),
           static_cast<T*>(image));
  });
}

}  // namespace visionops::VISIONOPS_ISA
