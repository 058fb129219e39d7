// Convolution with a window of one pixel, where channels are last: a product whose left factor is the image.
#pragma once

#include "conv/finished_product.h"

namespace visionops::VISIONOPS_ISA {

/// Rows that are pixels, copied so far apart that they do not contend for the first cache.
template <class T>
struct PixelRows {
  using C = Compute<T>;

  const T* image;
  int64_t channels;

  void fill(int64_t row, int64_t rows, C* to, int64_t step) const {
    for (int64_t r = 0; r < rows; ++r) copy_values(image + (row + r) * channels, channels, to + r * step);
  }

  void prefetch(int64_t row, int64_t rows) const {
    const T* from = image + row * channels;
    for (int64_t i = 0; i < rows * channels; i += kLine / sizeof(T)) prefetch_line(from + i);
  }
};

/// Calls f with the product of the problem if it is such a convolution; returns whether it is.
template <class F>
static bool visit_pointwise(const ConvolutionProblem& p, void* scratch, F&& f) {
  const auto pixels = [](const Axis& axis, int64_t out) {
    return axis.is_pixels() && axis.out_first == 0 && axis.out_step == 1 && axis.positions == out;
  };
  if (!p.channels_last || p.groups != 1 || p.in_channels == 0 || !pixels(p.y, p.out_height) ||
      !pixels(p.x, p.out_width)) {
    return false;
  }
  bool fits = false;
  visit_floating(p.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Finished = FinishedProduct<T, PixelRows<T>>;
    fits = Finished::panels_fitting(p.in_channels) > 0;
    if (fits) f(Finished(p, PixelRows<T>{static_cast<const T*>(p.image), p.in_channels}, scratch));
  });
  return fits;
}

}  // namespace visionops::VISIONOPS_ISA
