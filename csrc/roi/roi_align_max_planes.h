// RoIAlign by maximum of one RoI over the planes of a map whose channels are first: vectors of samples along a row.
#pragma once

#include <limits>

#include "common/lanes.h"
#include "roi/roi_align_max.h"
#include "roi/roi_axis.h"

namespace visionops::VISIONOPS_ISA {

/// Between two values; exactly the first where the fraction is 0, whatever the second.
template <class Value, class C>
VISIONOPS_INLINE Value between(const Value& low, const Value& high, C fraction) {
  return fraction == 0 ? low : (1 - fraction) * low + fraction * high;
}

/// Samples [begin, end) along x, at most a vector of them, whose left pixels are in one vector of columns.
template <class C>
struct SampleRun {
  using Lane = decltype(Lanes<C>{} == Lanes<C>{});

  int32_t begin, end;
  int64_t column;     // the first of the vector
  Lane left;          // of each sample, from there
  Lanes<C> fraction;  // of the way to the pixel beside it

  SampleRun(const RoiAxisSamples& x, int32_t first, int32_t count) : begin(first), end(first), left{}, fraction{} {
    int32_t low = x.samples[first].low, high = low;
    for (; end < count && end - begin < kLanes<C>; ++end) {
      const int32_t pixel = x.samples[end].low;
      const int32_t least = pixel < low ? pixel : low, most = pixel > high ? pixel : high;
      if (most - least >= kLanes<C>) break;
      low = least;
      high = most;
    }
    column = low;
    for (int32_t i = begin; i < end; ++i) {
      left[i - begin] = x.samples[i].low - low;
      fraction[i - begin] = below_one<C>(x.samples[i].fraction);
    }
  }

  /// The samples between two rows of `width` pixels.
  template <class T>
  VISIONOPS_INLINE Lanes<C> take(const T* low, const T* high, C below, int64_t width) const {
    const int64_t rest = width - column;
    const int count = static_cast<int>(rest < kLanes<C> ? rest : kLanes<C>);
    const int beside = static_cast<int>(rest - 1 < kLanes<C> ? rest - 1 : kLanes<C>);
    low += column;
    high += column;
    const Lanes<C> here = __builtin_shuffle(between(load(low, count), load(high, count), below), left);
    const Lanes<C> next = __builtin_shuffle(between(load(low + 1, beside), load(high + 1, beside), below), left);
    return fraction == Lanes<C>{} ? here : (1 - fraction) * here + fraction * next;
  }
};

/// One RoI over `planes` planes, each `size` from the one before.
template <class T>
void align_max_planes(const RoiProblem& problem, const RoiSamples& roi, const T* plane, int64_t planes, T* out) {
  using C = Compute<T>;
  const int64_t height = problem.pooled_height, bins = problem.pooled_width, width = problem.levels[0].width;
  const int64_t size = problem.levels[0].height * width;
  const C none = -std::numeric_limits<C>::infinity();
  for (int64_t i = 0; i < planes * height * bins; ++i) out[i] = from_compute<T>(none);
  for (int32_t first = 0, count = roi.x.begin[bins]; first < count;) {
    const SampleRun<C> run(roi.x, first, count);
    int64_t first_bin = 0;
    while (roi.x.begin[first_bin + 1] <= run.begin) ++first_bin;
    for (int64_t i = 0; i < planes * height; ++i) {
      const T* const of_plane = plane + i / height * size;
      const int64_t p = i % height;
      Lanes<C> most = all_lanes(none);
      for (int32_t s = roi.y.begin[p]; s < roi.y.begin[p + 1]; ++s) {
        const RoiSample& y = roi.y.samples[s];
        const auto below = below_one<C>(y.fraction);
        const Lanes<C> value = run.take(of_plane + y.low * width, of_plane + y.high * width, below, width);
        most = (value > most) | (value != value) ? value : most;
      }
      C values[kLanes<C>];
      store(values, most);
      const bool has_nan = any_nan<C>(most);
      for (int64_t q = first_bin; q < bins && roi.x.begin[q] < run.end; ++q) {
        // Samples are rounded to T in their order: the greatest may be kept rounded.
        C greatest = to_compute(out[i * bins + q]);
        const int32_t begin = roi.x.begin[q] > run.begin ? roi.x.begin[q] : run.begin;
        const int32_t end = roi.x.begin[q + 1] < run.end ? roi.x.begin[q + 1] : run.end;
        for (int32_t lane = begin - run.begin; lane < end - run.begin; ++lane) {
          greatest = values[lane] > greatest ? values[lane] : greatest;
        }
        for (int32_t lane = begin - run.begin; has_nan && lane < end - run.begin; ++lane) {
          greatest = values[lane] != values[lane] ? values[lane] : greatest;
        }
        out[i * bins + q] = from_compute<T>(greatest);
      }
    }
    first = run.end;
  }
  // Samples on no map are 0.
  for (int64_t i = 0; i < planes * height; ++i) {
    const int32_t rows = roi.y.begin[i % height + 1] - roi.y.begin[i % height];
    for (int64_t q = 0; q < bins; ++q) {
      const int32_t columns = roi.x.begin[q + 1] - roi.x.begin[q];
      const bool all_on_map = static_cast<double>(rows) == roi.y.grid && static_cast<double>(columns) == roi.x.grid;
      if (rows == 0 || columns == 0 || (!all_on_map && to_compute(out[i * bins + q]) <= 0)) {
        out[i * bins + q] = from_compute<T>(C(0));
      }
    }
  }
}

}  // namespace visionops::VISIONOPS_ISA
