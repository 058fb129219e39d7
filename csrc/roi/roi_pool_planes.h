// RoIPool of one RoI over the planes of a map whose channels are first: rows of a bin by vectors of columns, then
// columns by lanes over bins.
#pragma once

#include <limits>

#include "roi/roi_folds.h"
#include "roi/roi_greater.h"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {

/// What does not depend on the channel. `finds`: argmax is wanted as well.
template <class T, bool finds>
struct PlaneWindow {
  using C = Compute<T>;
  static constexpr C kInfinity = std::numeric_limits<C>::infinity();

  const RoiProblem& problem;
  const RoiBins& roi;
  int64_t left, right;  // columns from the first bin's to the last one's
  int64_t row_stride;
  bool has_folds, has_empty_bins;
  Folds<C> folds;
  C* rows;           // (pooled_height, row_stride): the greatest of each column in a bin's rows
  Pixel<C>* pixels;  // the same: the first that is that, if it `finds`
  C* narrow_result;  // (pooled_height, pooled_width), before it is narrowed

  PlaneWindow(const RoiProblem& problem, const RoiBins& roi, void* memory)
      : problem(problem), roi(roi), left(roi.column_begin[0]), right(roi.column_end[problem.pooled_width - 1]) {
    row_stride = padded(problem.levels[0].width);
    rows = static_cast<C*>(memory);
    pixels = reinterpret_cast<Pixel<C>*>(rows + problem.pooled_height * row_stride);
    narrow_result = rows + (finds ? 2 : 1) * problem.pooled_height * row_stride;
    has_folds = folds.build(roi, problem.pooled_width);
    has_empty_bins = false;
    for (int64_t p = 0; p < problem.pooled_height; ++p) has_empty_bins |= roi.row_begin[p] >= roi.row_end[p];
    for (int64_t q = 0; q < problem.pooled_width; ++q) has_empty_bins |= roi.column_begin[q] >= roi.column_end[q];
  }

  static int64_t padded(int64_t count) { return (count + kLanes<C> - 1) / kLanes<C> * kLanes<C>; }

  static int64_t bytes(const RoiProblem& problem) {
    const int64_t row_values = (finds ? 2 : 1) * padded(problem.levels[0].width) + problem.pooled_width;
    return problem.pooled_height * row_values * int64_t{sizeof(C)};
  }

  /// Fills `rows` and `pixels`; returns whether there is no NaN, if it is not told that there may be.
  template <Among among>
  bool take_rows(const T* plane) const {
    const int64_t width = problem.levels[0].width;
    Pixels<C> lane;
    for (int i = 0; i < kLanes<C>; ++i) lane[i] = static_cast<Pixel<C>>(i);
    // A NaN in a sum stays. Infinities may make one as well: then more is done than needed.
    Lanes<C> all{};
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const int64_t last = roi.row_end[p] * width;
      for (int64_t x = left; x < right; x += kLanes<C>) {
        int64_t at = roi.row_begin[p] * width + x;
        if (at >= last) break;
        const int count = static_cast<int>(right - x < kLanes<C> ? right - x : kLanes<C>);
        Lanes<C> most = load(plane + at, count), sum = most;
        Pixels<C> first = all_pixels<C>(at);
        for (at += width; at < last; at += width) {
          const Lanes<C> value = load(plane + at, count);
          const auto take = is_greater<among>(value, most);
          most = take ? value : most;
          if constexpr (finds) first = take ? all_pixels<C>(at) : first;
          sum += value;
        }
        all += sum;
        store(rows + p * row_stride + x - left, most);
        if constexpr (finds) {
          first += lane;
          memcpy(pixels + p * row_stride + x - left, &first, sizeof first);
        }
      }
    }
    return among == Among::all || !any_nan<C>(all);
  }

  /// Bins of rows [p, p + count) by lanes over bins of a row.
  template <int count>
  void fold_columns(int64_t p, C* result, uint32_t* argmax) const {
    const int bins = static_cast<int>(problem.pooled_width);
    const Lanes<C> none = all_lanes(-kInfinity);
    Lanes<C> most[count];
    for (int i = 0; i < count; ++i) most[i] = none;
    for (const Fold<C>& fold : folds) {
      for (int i = 0; i < count; ++i) {
        const Lanes<C> value = folded<C>(rows + (p + i) * row_stride, fold, none);
        most[i] = value > most[i] ? value : most[i];
      }
    }
    for (int i = 0; i < count; ++i) store(result + (p + i) * bins, most[i], bins);
    if constexpr (finds) {
      const Lanes<C> nan = all_lanes(std::numeric_limits<C>::quiet_NaN());
      Pixels<C> soonest[count];
      for (int i = 0; i < count; ++i) soonest[i] = all_pixels<C>(kNoPixel);
      for (const Fold<C>& fold : folds) {
        for (int i = 0; i < count; ++i) {
          const int64_t row = (p + i) * row_stride;
          const auto is_most = folded<C>(rows + row, fold, nan) == most[i];
          const Pixels<C> pixel = folded<C>(pixels + row, fold);
          soonest[i] = is_most & (pixel < soonest[i]) ? pixel : soonest[i];
        }
      }
      for (int i = 0; i < count; ++i) store_pixels<C>(argmax + (p + i) * bins, soonest[i], bins);
    }
  }

  template <Among among>
  void take_columns_of_each_bin(C* result, uint32_t* argmax) const {
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const C* const row = rows + p * row_stride - left;
      const Pixel<C>* const pixel = pixels + p * row_stride - left;
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        C most = -kInfinity;
        Pixel<C> soonest = kNoPixel;
        for (int64_t x = roi.column_begin[q]; x < roi.column_end[q]; ++x) {
          bool take = is_greater<among>(row[x], most);
          if constexpr (finds) {
            take |= is_as_great<among>(row[x], most) & (pixel[x] < soonest);
            soonest = take ? pixel[x] : soonest;
          }
          most = take ? row[x] : most;
        }
        *result++ = most;
        if constexpr (finds) *argmax++ = static_cast<uint32_t>(soonest);
      }
    }
  }

  void prefetch(const T* plane) const {
    const int64_t height = problem.pooled_height;
    prefetch_window(plane, problem.levels[0].width, roi.row_begin[0], roi.row_end[height - 1], left, right);
  }

  void pool(const T* plane, T* out, uint32_t* argmax) const {
    C* result = narrow_result;
    if constexpr (std::is_same_v<T, C>) result = out;
    if (!take_rows<Among::numbers>(plane)) {
      take_rows<Among::all>(plane);
      take_columns_of_each_bin<Among::all>(result, argmax);
    } else if (has_folds) {
      int64_t p = 0;
      for (; p + 7 <= problem.pooled_height; p += 7) fold_columns<7>(p, result, argmax);
      for (; p < problem.pooled_height; ++p) fold_columns<1>(p, result, argmax);
    } else {
      take_columns_of_each_bin<Among::numbers>(result, argmax);
    }
    if (has_empty_bins) clear_empty_bins(result, argmax);
    if constexpr (!std::is_same_v<T, C>) narrow(result, out, problem.pooled_height * problem.pooled_width);
  }

  void clear_empty_bins(C* result, uint32_t* argmax) const {
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        if (roi.row_begin[p] < roi.row_end[p] && roi.column_begin[q] < roi.column_end[q]) continue;
        result[p * problem.pooled_width + q] = 0;
        if constexpr (finds) argmax[p * problem.pooled_width + q] = kNoPixel;
      }
    }
  }
};

}  // namespace visionops::VISIONOPS_ISA
