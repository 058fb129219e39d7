// Convolution with a window of one pixel: a product one of whose factors is the image.
#pragma once

#include "conv/finished_planes.h"
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

/// Panels that are neighbouring pixels of each channel.
template <class T>
struct PixelColumns {
  using C = Compute<T>;

  const ConvolutionProblem& p;

  void fill(int64_t column, int64_t columns, C* to, int64_t stride) const {
    const int64_t plane = p.y.size * p.x.size;
    for (int64_t done = 0; done < columns;) {
      const int64_t at = column + done, lane = done % kTileColumns<C>;
      const int64_t in_panel = kTileColumns<C> - lane, in_image = plane - at % plane;
      const int64_t rest = columns - done < in_panel ? columns - done : in_panel;
      const T* from = static_cast<const T*>(p.image) + at / plane * p.in_channels * plane + at % plane;
      copy(from, plane, rest < in_image ? rest : in_image, to + done / kTileColumns<C> * stride + lane);
      done += rest < in_image ? rest : in_image;
    }
  }

 private:
  void copy(const T* from, int64_t plane, int64_t count, C* to) const {
    for (int64_t c = 0; c < p.in_channels; ++c, from += plane, to += kTileColumns<C>) {
      if (count == kTileColumns<C>) {
        copy_values(from, kTileColumns<C>, to);
      } else {
        copy_values(from, count, to);
      }
    }
  }
};

/// Calls f with the product of the problem if it is such a convolution; returns whether it is.
template <class F>
static bool visit_pointwise(const ConvolutionProblem& p, void* scratch, F&& f) {
  const auto pixels = [](const Axis& axis, int64_t out) {
    return axis.is_pixels() && axis.out_first == 0 && axis.out_step == 1 && axis.positions == out;
  };
  if (p.groups != 1 || p.in_channels == 0 || !pixels(p.y, p.out_height) || !pixels(p.x, p.out_width)) {
    return false;
  }
  bool fits = false;
  visit_floating(p.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Rows = FinishedProduct<T, PixelRows<T>>;
    using Columns = FinishedPlanes<T, PixelColumns<T>>;
    fits = (p.channels_last ? Rows::panels_fitting(p.in_channels) : Columns::panels_fitting(p.in_channels)) > 0;
    if (!fits) return;
    if (p.channels_last) {
      f(Rows(p, PixelRows<T>{static_cast<const T*>(p.image), p.in_channels}, scratch));
    } else {
      f(Columns(p, PixelColumns<T>{p}, scratch));
    }
  });
  return fits;
}

}  // namespace visionops::VISIONOPS_ISA
