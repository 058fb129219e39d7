// Rows of an image's column matrix, transposed, where channels are last in memory: a position's taps and channels.
#pragma once

#include "conv/convolution.h"
#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {

template <class T, class C>
static inline void copy_values(const T* from, int64_t count, C* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = to_compute(from[i]);
}

/// Of the position `at`, numbered through all images, the values [k, k + depth) in the order (tap, channel) of one
/// group; 0 outside the image. `image` points at the group's first channel.
template <class T, class C>
static void pack_position(const ConvolutionProblem& p, const T* image, int64_t at, int64_t k, int64_t depth, C* to) {
  const int64_t plane = p.y.positions * p.x.positions, pixel = p.groups * p.in_channels;
  const int64_t y0 = p.y.first + at % plane / p.x.positions * p.y.step;
  const int64_t x0 = p.x.first + at % p.x.positions * p.x.step;
  const T* whole = image + at / plane * p.y.size * p.x.size * pixel;
  // Neighbouring taps are neighbours in memory too: a row of the window is one run.
  const bool one_run = p.groups == 1 && p.x.tap_step == 1;
  const int64_t run = one_run ? p.x.taps * p.in_channels : p.in_channels;
  const int64_t runs_a_row = one_run ? 1 : p.x.taps;
  for (int64_t done = 0; done < depth;) {
    const int64_t number = (k + done) / run, skipped = (k + done) % run;
    const int64_t count = run - skipped < depth - done ? run - skipped : depth - done;
    const int64_t y = y0 + number / runs_a_row * p.y.tap_step, x = x0 + number % runs_a_row * p.x.tap_step;
    // Values of the run that lie in the image: its first is that of pixel x.
    int64_t begin = x < 0 ? -x * p.in_channels : 0;
    int64_t end = one_run ? (p.x.size - x) * p.in_channels : (x >= p.x.size ? 0 : run);
    if (y < 0 || y >= p.y.size) end = 0;
    begin = begin > skipped ? begin - skipped : 0;
    end = end > skipped ? end - skipped : 0;
    end = end < count ? end : count;
    begin = begin < end ? begin : end;
    for (int64_t i = 0; i < begin; ++i) to[done + i] = C(0);
    if (begin < end) {
      copy_values(whole + (y * p.x.size + x) * pixel + skipped + begin, end - begin, to + done + begin);
    }
    for (int64_t i = end; i < count; ++i) to[done + i] = C(0);
    done += count;
  }
}

}  // namespace visionops::VISIONOPS_ISA
