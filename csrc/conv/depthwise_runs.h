// Depthwise windows of any kind where channels come first: lanes that a tap meets, found once for all channels.
#pragma once

#include "conv/image_columns.h"

namespace visionops::VISIONOPS_ISA {

/// The runs of up to kTaps taps of a window, found once for all channels.
template <class T, class C>
struct TapRuns {
  static constexpr int kTaps = 25;
  Run<T> runs[kTaps * kTileColumns<C>];
  int ends[kTaps];
};

/// Adds to a row of kTileColumns lanes what `taps` taps of one channel meet, `offset` values after the runs.
template <class T, class C>
static inline void add_taps(const TapRuns<T, C>& found, int64_t taps, int64_t offset, int64_t step, const C* filter,
                            int64_t filter_step, C* to) {
  int r = 0;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const C factor = filter[tap * filter_step];
    for (; r < found.ends[tap]; ++r) {
      const Run<T>& run = found.runs[r];
      const T* from = run.from + offset;
      if (step == 1) {
        for (int lane = run.begin; lane < run.end; ++lane) to[lane] += factor * to_compute(from[lane]);
      } else {
        for (int lane = run.begin; lane < run.end; ++lane) to[lane] += factor * to_compute(from[lane * step]);
      }
    }
  }
}

#if defined(__AVX512F__)
template <>
inline void add_taps(const TapRuns<float, float>& found, int64_t taps, int64_t offset, int64_t step,
                     const float* filter, int64_t filter_step, float* to) {
  __m512 low = _mm512_loadu_ps(to), high = _mm512_loadu_ps(to + 16);
  const __m512 zero = _mm512_setzero_ps();
  int r = 0;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const __m512 factor = _mm512_set1_ps(filter[tap * filter_step]);
    for (; r < found.ends[tap]; ++r) {
      const Run<float>& run = found.runs[r];
      const float* from = run.from + offset;
      const uint32_t mask = mask_of(run);
      const auto low_mask = static_cast<__mmask16>(mask), high_mask = static_cast<__mmask16>(mask >> 16);
      if (run.begin < 16) low = _mm512_mask3_fmadd_ps(factor, loaded(zero, low_mask, from, step), low, low_mask);
      if (run.end > 16) {
        high = _mm512_mask3_fmadd_ps(factor, loaded(zero, high_mask, from + 16 * step, step), high, high_mask);
      }
    }
  }
  _mm512_storeu_ps(to, low);
  _mm512_storeu_ps(to + 16, high);
}
#endif

/// The sums of `channels` channels at the positions [first, first + count), at most a panel's: rows of kTileColumns
/// lanes. `image` points at the first of these channels, `filter` at its first tap and `bias` at its value.
template <class T, class C>
static void by_runs(const ConvolutionProblem& p, const T* image, int64_t first, int64_t count, int64_t channels,
                    const C* filter, const T* bias, C* to) {
  Segment segments[kTileColumns<C>];
  TapRuns<T, C> found;
  const int segment_count = segments_of(p, first, count, segments);
  const int64_t taps = p.y.taps * p.x.taps, plane = p.y.size * p.x.size;
  for (int64_t c = 0; c < channels; ++c) {
    const C shift = bias == nullptr ? C(0) : to_compute(bias[c]);
    for (int i = 0; i < kTileColumns<C>; ++i) to[c * kTileColumns<C> + i] = shift;
  }
  for (int64_t tap = 0; tap < taps; tap += found.kTaps) {
    const int64_t some = taps - tap < found.kTaps ? taps - tap : found.kTaps;
    int end = 0;
    for (int64_t t = tap; t < tap + some; ++t) {
      end += runs_of(p, image, segments, segment_count, t / p.x.taps, t % p.x.taps, found.runs + end);
      found.ends[t - tap] = end;
    }
    for (int64_t c = 0; c < channels; ++c) {
      add_taps(found, some, c * plane, p.x.step, filter + tap * p.groups + c, p.groups, to + c * kTileColumns<C>);
    }
  }
}

}  // namespace visionops::VISIONOPS_ISA
