// The column matrix of an image on the CPU: rows of pixels copied tap by tap.
#include "conv/im2col.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// One plane's columns; `step` values lie between neighbouring pixels of the image.
template <class T>
void plane_columns(const ColumnsProblem& p, const T* image, int64_t step, T* columns) {
  const Window& w = p.window;
  for (int64_t i = 0; i < w.kernel_h; ++i) {
    for (int64_t j = 0; j < w.kernel_w; ++j) {
      const int64_t offset = j * w.dilation_w - w.pad_w;
      const InBounds inside = in_bounds(p.out_width, w.stride_w, offset, p.width);
      for (int64_t y = 0; y < p.out_height; ++y, columns += p.out_width) {
        const int64_t row = y * w.stride_h - w.pad_h + i * w.dilation_h;
        if (row < 0 || row >= p.height) {
          for (int64_t x = 0; x < p.out_width; ++x) columns[x] = T{};
          continue;
        }
        const T* pixels = image + (row * p.width + offset) * step;
        for (int64_t x = 0; x < inside.begin; ++x) columns[x] = T{};
        if (w.stride_w == 1 && step == 1) {
          for (int64_t x = inside.begin; x < inside.end; ++x) columns[x] = pixels[x];
        } else {
          for (int64_t x = inside.begin; x < inside.end; ++x) columns[x] = pixels[x * w.stride_w * step];
        }
        for (int64_t x = inside.end; x < p.out_width; ++x) columns[x] = T{};
      }
    }
  }
}

// Values are only moved: their size is all that matters.
template <class T>
void planes(const ColumnsProblem& p, const void* image, void* columns, int64_t begin, int64_t end) {
  const int64_t size = p.height * p.width;
  const int64_t written = p.window.kernel_h * p.window.kernel_w * p.out_height * p.out_width;
  for (int64_t plane = begin; plane < end; ++plane) {
    const int64_t batch = plane / p.channels, channel = plane % p.channels;
    const T* from = static_cast<const T*>(image) + batch * p.channels * size;
    from += p.channels_last ? channel : channel * size;
    plane_columns(p, from, p.channels_last ? p.channels : 1, static_cast<T*>(columns) + plane * written);
  }
}

}  // namespace

void im2col(const ColumnsProblem& problem, const void* image, void* columns, int64_t begin, int64_t end) {
  switch (problem.dtype) {
    case DType::f64: return planes<uint64_t>(problem, image, columns, begin, end);
    case DType::f32: return planes<uint32_t>(problem, image, columns, begin, end);
    default: return planes<uint16_t>(problem, image, columns, begin, end);
  }
}

}  // namespace visionops::VISIONOPS_ISA
