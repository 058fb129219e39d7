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
  bool has_empty_bins;
#if defined(__AVX512F__)
  bool has_folds;
  Folds<C> folds;
#endif
  C* rows;           // (pooled_height, row_stride): the greatest of each column in a bin's rows
  Pixel<C>* pixels;  // the same: the first that is that, if it `finds`
  C* narrow_result;  // (pooled_height, pooled_width), before it is narrowed

  PlaneWindow(const RoiProblem& problem, const RoiBins& roi, void* memory)
      : problem(problem), roi(roi), left(roi.column_begin[0]), right(roi.column_end[problem.pooled_width - 1]) {
    row_stride = padded(problem.levels[0].width);
    rows = static_cast<C*>(memory);
    pixels = reinterpret_cast<Pixel<C>*>(rows + problem.pooled_height * row_stride);
    narrow_result = rows + (finds ? 2 : 1) * problem.pooled_height * row_stride;
#if defined(__AVX512F__)
    has_folds = folds.build(roi, problem.pooled_height, problem.pooled_width);
#endif
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

  template <Among among>
  void take_columns(C* result, uint32_t* argmax) const {
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

  /// Writes the bins of one plane, those without a pixel as well; returns whether there is no NaN, if not told so.
  template <Among among>
  bool pool_each_bin(const T* plane, C* result, uint32_t* argmax) const {
    if (!take_rows<among>(plane)) return false;
    take_columns<among>(result, argmax);
    return true;
  }

  bool pool_numbers(const T* plane, C* result, uint32_t* argmax) const {
#if defined(__AVX512F__)
    if (has_folds) return folds.template pool<finds>(plane, problem.levels[0].width, result, argmax);
#endif
    return pool_each_bin<Among::numbers>(plane, result, argmax);
  }

  void pool(const T* plane, T* out, uint32_t* argmax) const {
    C* result = narrow_result;
    if constexpr (std::is_same_v<T, C>) result = out;
    if (!pool_numbers(plane, result, argmax)) pool_each_bin<Among::all>(plane, result, argmax);
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
