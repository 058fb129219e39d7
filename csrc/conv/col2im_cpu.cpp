// The adjoint of im2col on the CPU: each row of the image gathers the column values that were copied from it.
#include "conv/im2col.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// Pixels of a row that are summed on the stack.
constexpr int64_t kPixels = 512;

/// Adds to sums[0, count), the pixels from `first` on of a row, what tap j of the window copied from them.
template <class T, class C>
void add_tap(const ColumnsProblem& p, int64_t j, const T* column, int64_t first, int64_t count, C* sums) {
  const int64_t stride = p.window.stride_w;
  const int64_t offset = j * p.window.dilation_w - p.window.pad_w - first;
  const InBounds inside = in_bounds(p.out_width, stride, offset, count);
  if (stride == 1) {
    for (int64_t x = inside.begin; x < inside.end; ++x) sums[x + offset] += to_compute(column[x]);
  } else {
    for (int64_t x = inside.begin; x < inside.end; ++x) sums[x * stride + offset] += to_compute(column[x]);
  }
}

template <class T>
void plane(const ColumnsProblem& p, const T* columns, T* image) {
  using C = Compute<T>;
  const Window& w = p.window;
  C sums[kPixels];
  for (int64_t row = 0; row < p.height; ++row) {
    for (int64_t first = 0; first < p.width; first += kPixels) {
      const int64_t count = p.width - first < kPixels ? p.width - first : kPixels;
      for (int64_t x = 0; x < count; ++x) sums[x] = C(0);
      for (int64_t i = 0; i < w.kernel_h; ++i) {
        const int64_t down = row + w.pad_h - i * w.dilation_h;
        if (down < 0 || down % w.stride_h != 0 || down / w.stride_h >= p.out_height) continue;
        for (int64_t j = 0; j < w.kernel_w; ++j) {
          const int64_t line = (i * w.kernel_w + j) * p.out_height + down / w.stride_h;
          add_tap(p, j, columns + line * p.out_width, first, count, sums);
        }
      }
      T* out = image + row * p.width + first;
      if constexpr (std::is_same_v<T, C>) {
        for (int64_t x = 0; x < count; ++x) out[x] = sums[x];
      } else {
        narrow(sums, out, count);
      }
    }
  }
}

}  // namespace

void col2im(const ColumnsProblem& problem, const void* columns, void* image, int64_t begin, int64_t end) {
  const int64_t size = problem.height * problem.width;
  const int64_t read = problem.window.kernel_h * problem.window.kernel_w * problem.out_height * problem.out_width;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = begin; i < end; ++i) {
      plane(problem, static_cast<const T*>(columns) + i * read, static_cast<T*>(image) + i * size);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
