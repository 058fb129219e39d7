// Rows of an image's column matrix, transposed, where channels are last in memory: a position's taps and channels.
#pragma once

#include "conv/convolution.h"
#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {

template <class T, class C>
static inline void copy_values(const T* from, int64_t count, C* to) {
  if constexpr (std::is_same_v<T, C>) {
    // Of no values the pointer may be null, which memcpy may not be given.
    if (count > 0) memcpy(to, from, count * sizeof(T));
  } else {
    widen(from, to, count);
  }
}

/// Writes the values [begin, begin + count) of a run of neighbouring pixels that starts at pixel x of a row of the
/// image, or before it; 0 outside. Pixels are `channels` values, of which a run has all if it is longer than one pixel.
template <class T, class C>
static inline void copy_run(const T* row, int64_t x, int64_t size, int64_t pixel, int64_t channels, int64_t begin,
                            int64_t count, C* to) {
  int64_t from = x < 0 ? -x * channels - begin : 0;
  int64_t end = (size - x) * channels - begin;
  from = from < 0 ? 0 : from < count ? from : count;
  end = end < from ? from : end < count ? end : count;
  for (int64_t i = 0; i < from; ++i) to[i] = C(0);
  if (from < end) copy_values(row + x * pixel + begin + from, end - from, to + from);
  for (int64_t i = end; i < count; ++i) to[i] = C(0);
}

/// The values [k, k + depth) in the order (tap, channel) of one group under the window at a position; 0 outside the
/// image. `image` points at the group's first channel.
template <class T, class C>
static void pack_position(const ConvolutionProblem& p, const T* image, const Position& at, int64_t k, int64_t depth,
                          C* to) {
  if (depth == 0) return;  // perhaps there are no taps
  const int64_t pixel = p.groups * p.in_channels;
  // Neighbouring taps are neighbours in memory too: a row of the window is one run.
  const bool one_run = p.groups == 1 && p.x.tap_step == 1;
  const int64_t run = one_run ? p.x.taps * p.in_channels : p.in_channels;
  const int64_t runs_a_row = one_run ? 1 : p.x.taps;
  int64_t skipped = k % run, i = k / run / runs_a_row, j = k / run % runs_a_row;
  int64_t y = p.y.first + at.y * p.y.step + i * p.y.tap_step;
  const int64_t x = p.x.first + at.x * p.x.step;
  while (depth > 0) {
    const int64_t count = run - skipped < depth ? run - skipped : depth;
    if (y < 0 || y >= p.y.size) {
      for (int64_t v = 0; v < count; ++v) to[v] = C(0);
    } else {
      const T* row = image + (at.image * p.y.size + y) * p.x.size * pixel;
      copy_run(row, x + j * p.x.tap_step, p.x.size, pixel, p.in_channels, skipped, count, to);
    }
    to += count;
    depth -= count;
    skipped = 0;
    if (++j == runs_a_row) {
      j = 0;
      y += p.y.tap_step;
    }
  }
}

}  // namespace visionops::VISIONOPS_ISA
