// Panels of an image's column matrix, packed straight from the image: lanes are neighbouring positions of the window.
#pragma once

#include "conv/convolution.h"
#include "conv/tile.h"
#include "conv/window.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace visionops::VISIONOPS_ISA {

/// Positions of one row of one image, which stand in neighbouring lanes.
struct Segment {
  int64_t image, y, x;
  int lane, lanes;
};

/// The segments of the positions [first, first + count), numbered through all images; returns how many.
static inline int segments_of(const ConvolutionProblem& p, int64_t first, int64_t count, Segment* segments) {
  Position at(p.y, p.x, first);
  int found = 0;
  for (int64_t lane = 0; lane < count;) {
    const int64_t lanes = p.x.positions - at.x < count - lane ? p.x.positions - at.x : count - lane;
    segments[found++] = {at.image, at.y, at.x, static_cast<int>(lane), static_cast<int>(lanes)};
    lane += lanes;
    at.x += lanes - 1;
    at.advance(p.y, p.x);
  }
  return found;
}

/// Lanes [begin, end) of a row come from from[lane * step].
template <class T>
struct Run {
  const T* from;
  int begin, end;
};

/// What one tap meets at the positions of the segments, as runs in channel 0; returns how many.
template <class T>
static inline int runs_of(const ConvolutionProblem& p, const T* image, const Segment* segments, int count, int64_t i,
                          int64_t j, Run<T>* runs) {
  const int64_t plane = p.y.size * p.x.size;
  int found = 0;
  for (int s = 0; s < count; ++s) {
    const Segment& segment = segments[s];
    const int64_t y = p.y.first + segment.y * p.y.step + i * p.y.tap_step;
    if (y < 0 || y >= p.y.size) continue;
    const int64_t x = p.x.first + segment.x * p.x.step + j * p.x.tap_step;
    const InBounds inside = in_bounds(segment.lanes, p.x.step, x, p.x.size);
    if (inside.begin >= inside.end) continue;
    const T* row = image + segment.image * p.groups * p.in_channels * plane + y * p.x.size;
    runs[found++] = {row + x - segment.lane * p.x.step, segment.lane + static_cast<int>(inside.begin),
                     segment.lane + static_cast<int>(inside.end)};
  }
  return found;
}

/// Writes rows of kTileColumns lanes, `stride` apart: of `channels` channels, `plane` values apart, 0 where no run is.
template <class T, class C>
static inline void write_rows(const Run<T>* runs, int count, int64_t step, int64_t channels, int64_t plane, C* to,
                              int64_t stride) {
  for (int64_t c = 0; c < channels; ++c, to += stride) {
    int lane = 0;
    for (int r = 0; r < count; ++r) {
      const T* from = runs[r].from + c * plane;
      for (; lane < runs[r].begin; ++lane) to[lane] = C(0);
      if (step == 1) {
        for (; lane < runs[r].end; ++lane) to[lane] = to_compute(from[lane]);
      } else {
        for (; lane < runs[r].end; ++lane) to[lane] = to_compute(from[lane * step]);
      }
    }
    for (; lane < kTileColumns<C>; ++lane) to[lane] = C(0);
  }
}

#if defined(__AVX512F__)

static inline uint32_t mask_of(const Run<float>& run) {
  return static_cast<uint32_t>((uint64_t{1} << run.end) - (uint64_t{1} << run.begin));
}

/// `value`, in the lanes of the mask from[lane * step].
static inline __m512 loaded(__m512 value, __mmask16 mask, const float* from, int64_t step) {
  if (step == 1) return _mm512_mask_loadu_ps(value, mask, from);
  if (step == 2) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const auto wide = static_cast<uint32_t>(_pdep_u64(mask, 0x55555555u));
    const __m512 first = _mm512_maskz_loadu_ps(static_cast<__mmask16>(wide), from);
    const __m512 second = _mm512_maskz_loadu_ps(static_cast<__mmask16>(wide >> 16), from + 16);
    return _mm512_mask_mov_ps(value, mask, _mm512_permutex2var_ps(first, even, second));
  }
  alignas(64) float lanes[16] = {};
  for (int lane = 0; lane < 16; ++lane) {
    if (mask >> lane & 1) lanes[lane] = from[lane * step];
  }
  return _mm512_mask_mov_ps(value, mask, _mm512_load_ps(lanes));
}

// A row is two vectors, each the sum of masked loads: most rows are one or two runs.
template <>
inline void write_rows(const Run<float>* runs, int count, int64_t step, int64_t channels, int64_t plane, float* to,
                       int64_t stride) {
  for (int64_t c = 0; c < channels; ++c, to += stride) {
    __m512 low = _mm512_setzero_ps(), high = low;
    for (int r = 0; r < count; ++r) {
      const uint32_t mask = mask_of(runs[r]);
      const float* from = runs[r].from + c * plane;
      if (runs[r].begin < 16) low = loaded(low, static_cast<__mmask16>(mask), from, step);
      if (runs[r].end > 16) high = loaded(high, static_cast<__mmask16>(mask >> 16), from + 16 * step, step);
    }
    _mm512_storeu_ps(to, low);
    _mm512_storeu_ps(to + 16, high);
  }
}

#endif

/// Rows [k, k + depth) of the column matrix of one group, in the order (channel, tap), at the positions [first,
/// first + count), as (depth, kTileColumns). `image` points at the group's first channel.
template <class T, class C>
static void pack_columns(const ConvolutionProblem& p, const T* image, int64_t first, int64_t count, int64_t k,
                         int64_t depth, C* to) {
  Segment segments[kTileColumns<C>];
  Run<T> runs[kTileColumns<C>];
  const int found = segments_of(p, first, count, segments);
  const int64_t taps = p.y.taps * p.x.taps, plane = p.y.size * p.x.size;
  for (int64_t tap = 0; tap < taps; ++tap) {
    // Of this tap the channels c with k <= c * taps + tap < k + depth.
    const int64_t begin = k > tap ? (k - tap + taps - 1) / taps : 0;
    const int64_t end = k + depth > tap ? (k + depth - tap + taps - 1) / taps : 0;
    if (begin >= end) continue;
    const int used = runs_of(p, image + begin * plane, segments, found, tap / p.x.taps, tap % p.x.taps, runs);
    write_rows(runs, used, p.x.step, end - begin, plane, to + (begin * taps + tap - k) * kTileColumns<C>,
               taps * kTileColumns<C>);
  }
}

}  // namespace visionops::VISIONOPS_ISA
