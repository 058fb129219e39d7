// Depthwise windows where channels are last: the pixels they meet, and vectors of channels by nine taps or a few.
#pragma once

#include "conv/convolution.h"
#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {

/// Where a position's window lies in an image whose channels are last.
template <class T>
struct WindowAt {
  const T* corner;  // channel 0 of the pixel that tap (0, 0) meets, inside the image or not
  int64_t y, x;
  bool inside;  // all of it

  WindowAt(const ConvolutionProblem& p, const Position& at)
      : y(p.y.first + at.y * p.y.step), x(p.x.first + at.x * p.x.step) {
    corner = static_cast<const T*>(p.image) + ((at.image * p.y.size + y) * p.x.size + x) * p.groups;
    const int64_t last_y = y + (p.y.taps - 1) * p.y.tap_step, last_x = x + (p.x.taps - 1) * p.x.tap_step;
    inside = y >= 0 && x >= 0 && last_y >= 0 && last_x >= 0 && y < p.y.size && x < p.x.size && last_y < p.y.size &&
             last_x < p.x.size;
  }
};

/// Calls f(tap, offset of its pixel from the corner) for the taps that meet a pixel.
template <class T, class F>
static inline void each_tap(const ConvolutionProblem& p, const WindowAt<T>& window, F&& f) {
  for (int64_t i = 0; i < p.y.taps; ++i) {
    const int64_t y = window.y + i * p.y.tap_step;
    if (!window.inside && (y < 0 || y >= p.y.size)) continue;
    for (int64_t j = 0; j < p.x.taps; ++j) {
      const int64_t x = window.x + j * p.x.tap_step;
      if (!window.inside && (x < 0 || x >= p.x.size)) continue;
      f(i * p.x.taps + j, (i * p.y.tap_step * p.x.size + j * p.x.tap_step) * p.groups);
    }
  }
}

/// `channels` channels, whole vectors, from `channel` on, of kCount neighbouring positions by a 3x3 filter: what the
/// columns of pixels meet goes into the sums of all positions at once. Of several positions, only the first and the
/// last column may lie outside the image; of one alone, any, and taps may lie apart.
template <int kCount, int kStep, class C>
static void nine_taps(const ConvolutionProblem& p, const WindowAt<C>& first, int64_t channel, int64_t channels,
                      const C* filters, Clamp<C> clamp, C* to, int64_t stride) {
  constexpr int kColumns = (kCount - 1) * kStep + 3;
  const int64_t pixel = p.groups, line = p.x.size * pixel;
  bool rows[3], columns[kColumns];
  for (int i = 0; i < 3; ++i) {
    const int64_t y = first.y + i * p.y.tap_step;
    rows[i] = y >= 0 && y < p.y.size;
  }
#pragma GCC unroll 16
  for (int c = 0; c < kColumns; ++c) {
    const int64_t x = first.x + c * p.x.tap_step;
    columns[c] = (kCount > 1 && c > 0 && c < kColumns - 1) || (x >= 0 && x < p.x.size);
  }
  const C* bias = static_cast<const C*>(p.bias);
  for (const int64_t end = channel + channels; channel < end; channel += kVector<C>, to += kVector<C>) {
    Vector<C> sums[kCount];
#pragma GCC unroll 8
    for (int r = 0; r < kCount; ++r) sums[r] = bias == nullptr ? Vector<C>{} : load(bias + channel);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      if (!rows[i]) continue;
      const C* row = first.corner + i * p.y.tap_step * line + channel;
      Vector<C> filter[3];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) filter[j] = load(filters + (i * 3 + j) * pixel + channel);
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; ++c) {
        if (!columns[c]) continue;
        const Vector<C> value = load(row + c * p.x.tap_step * pixel);
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) {
          const int r = (c - j) / kStep;
          if (c >= j && r * kStep == c - j && r < kCount) sums[r] += value * filter[j];
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kCount; ++r) store<C>(clamp(sums[r]), to + r * stride);
  }
}

// Neighbouring positions that share what they load.
constexpr int kNeighbours = 7;

template <class C>
using NineTaps = void(const ConvolutionProblem& p, const WindowAt<C>& first, int64_t channel, int64_t channels,
                      const C* filters, Clamp<C> clamp, C* to, int64_t stride);

/// The kernel for `count` neighbours, up to kNeighbours.
template <int kStep, class C, int kCount = kNeighbours>
static NineTaps<C>* nine_taps_for(int64_t count) {
  if constexpr (kCount > 1) {
    if (count < kCount) return nine_taps_for<kStep, C, kCount - 1>(count);
  }
  return nine_taps<kCount, kStep, C>;
}

/// The same of `count` positions.
template <class C>
static void by_nine_taps(const ConvolutionProblem& p, Position at, int64_t count, int64_t channel, int64_t channels,
                         const C* filters, Clamp<C> clamp, C* to, int64_t stride) {
  const bool sharing = p.x.tap_step == 1 && (p.x.step == 1 || p.x.step == 2);
  while (count > 0) {
    const WindowAt<C> first(p, at);
    int64_t neighbours = 1;
    if (sharing) {
      const int64_t rest = p.x.positions - at.x < count ? p.x.positions - at.x : count;
      neighbours = rest < kNeighbours ? rest : kNeighbours;
      if (first.x < -1 || first.x + (neighbours - 1) * p.x.step + 1 >= p.x.size) neighbours = 1;
    }
    NineTaps<C>* kernel = p.x.step == 1 ? nine_taps_for<1, C>(neighbours) : nine_taps_for<2, C>(neighbours);
    kernel(p, first, channel, channels, filters, clamp, to, stride);
    for (int64_t r = 0; r < neighbours; ++r) at.advance(p.y, p.x);
    to += neighbours * stride;
    count -= neighbours;
  }
}

/// What a window's tap meets: a pixel and the tap's filter, from one channel on.
template <class C>
struct Met {
  const C *pixel, *filter;
};

/// `channels` channels, whole vectors, of a position whose window meets kCount pixels.
template <int kCount, class C>
static void few_taps(const Met<C>* met, const C* bias, int64_t channels, Clamp<C> clamp, C* to) {
  for (int64_t c = 0; c < channels; c += kVector<C>) {
    Vector<C> sum = bias == nullptr ? Vector<C>{} : load(bias + c);
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) sum += load(met[i].pixel + c) * load(met[i].filter + c);
    store<C>(clamp(sum), to + c);
  }
}

// Windows of a few taps: those of two by two, and the phases of a 3x3 window's adjoint with stride 2.
constexpr int kFewTaps = 4;

template <class C>
using FewTaps = void(const Met<C>* met, const C* bias, int64_t channels, Clamp<C> clamp, C* to);

/// The kernel for `count` pixels, up to kFewTaps.
template <class C, int kCount = kFewTaps>
static FewTaps<C>* few_taps_for(int count) {
  if constexpr (kCount > 0) {
    if (count < kCount) return few_taps_for<C, kCount - 1>(count);
  }
  return few_taps<kCount, C>;
}

/// The same of `count` positions.
template <class C>
static void by_few_taps(const ConvolutionProblem& p, Position at, int64_t count, int64_t channel, int64_t channels,
                        const C* filters, Clamp<C> clamp, C* to, int64_t stride) {
  const C* bias = p.bias == nullptr ? nullptr : static_cast<const C*>(p.bias) + channel;
  for (int64_t r = 0; r < count; ++r, at.advance(p.y, p.x)) {
    const WindowAt<C> window(p, at);
    Met<C> met[kFewTaps];
    int pixels = 0;
    each_tap(p, window, [&](int64_t tap, int64_t from) {
      met[pixels++] = {window.corner + from + channel, filters + tap * p.groups + channel};
    });
    few_taps_for<C>(pixels)(met, bias, channels, clamp, to + r * stride);
  }
}

}  // namespace visionops::VISIONOPS_ISA
