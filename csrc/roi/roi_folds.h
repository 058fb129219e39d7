// RoIPool of one RoI over planes where the machine permutes vectors: how the columns of its window fall to the bins.
#pragma once

#include <algorithm>

#include "roi/roi_greater.h"
#include "roi/roi_pool.h"

#if defined(__AVX512F__)

namespace visionops::VISIONOPS_ISA {

/// Integers as wide as the lanes; comparisons give them, 0 or -1.
template <class C>
using Whole = decltype(Lanes<C>{} == Lanes<C>{});

/// Neighbouring bins whose columns are in a pair of vectors: of one row of bins, or the same ones of two rows.
template <class C>
struct Fold {
  int64_t bin, bins;     // the first, and how many
  int64_t column, next;  // where the two vectors begin in a row of the map
  uint32_t mask, next_mask;
  const Whole<C>* begin;  // lanes of the pair, one for each bin in each step
  const Whole<C>* end;
};

/// The folds of one RoI: each bin is in one.
template <class C>
class Folds {
 public:
  /// Whether there are few enough to be quicker than a bin at a time.
  bool build(const RoiBins& roi, int64_t height, int64_t width) {
    roi_ = &roi;
    height_ = height;
    depth_ = 1;
    for (int64_t p = 0; p < height; ++p) depth_ = std::max<int64_t>(depth_, roi.row_end[p] - roi.row_begin[p]);
    const auto columns = [&](int64_t first, int64_t last) { return roi.column_end[last] - roi.column_begin[first]; };
    width_ = width;
    rows_ = columns(0, width - 1) <= kLanes<C> && 2 * width <= kLanes<C> ? 2 : 1;
    count_ = 0;
    Whole<C>* step = steps_;
    for (int64_t first = 0, last; first < width; first = last) {
      int64_t steps = 1;
      for (last = first; last < width && last - first < kLanes<C> && columns(first, last) <= 2 * kLanes<C>; ++last) {
        steps = std::max<int64_t>(steps, columns(last, last));
      }
      if (last == first || count_ == kMostFolds || step + steps > steps_ + kMostSteps) return false;
      const int64_t column = roi.column_begin[first], next = rows_ == 2 ? column : column + kLanes<C>;
      const int64_t end = roi.column_end[last - 1];
      folds_[count_++] = {first, last - first, column, next, mask_of(end - column), mask_of(end - next),
                          step,  step + steps};
      for (int64_t i = 0; i < steps; ++i) *step++ = lanes_of(first, last, i);
    }
    return true;
  }

  /// Writes the bins of one plane, those without a pixel as well; returns whether there is no NaN.
  template <bool finds, class T>
  bool pool(const T* plane, int64_t row_size, C* out, uint32_t* argmax) const {
    Pixels<C> lane;
    for (int i = 0; i < kLanes<C>; ++i) lane[i] = static_cast<Pixel<C>>(i);
    // A NaN in a sum stays. Infinities may make one as well: then more is done than needed.
    Lanes<C> sum{}, next_sum{};
    for (const Fold<C>* fold = folds_; fold < folds_ + count_; ++fold) {
      const T *const columns = plane + fold->column, *const next_columns = plane + fold->next;
      for (int64_t p = 0; p < height_; p += rows_) {
        const int64_t rows = std::min(rows_, height_ - p);
        int64_t at, next_at;
        const int64_t last = rows_of(p, row_size, at), next_last = rows_of(p + rows - 1, row_size, next_at);
        Lanes<C> most = load_masked(columns + at, fold->mask),
                 next_most = load_masked(next_columns + next_at, fold->next_mask);
        Pixels<C> first = all_pixels<C>(at + fold->column) + lane,
                  next_first = all_pixels<C>(next_at + fold->next) + lane;
        Pixels<C> down{}, first_down{}, next_first_down{};  // below the bin's first row
        sum += most;
        next_sum += next_most;
        for (int64_t i = 1; i < depth_; ++i) {
          // A bin that has fewer rows takes its last one again.
          at = at < last ? at + row_size : at;
          next_at = next_at < next_last ? next_at + row_size : next_at;
          down += all_pixels<C>(row_size);
          take_greater<finds>(load_masked(columns + at, fold->mask), down, most, first_down, sum);
          take_greater<finds>(load_masked(next_columns + next_at, fold->next_mask), down, next_most, next_first_down,
                              next_sum);
        }
        const int64_t bin = p * width_ + fold->bin;
        const int bins = static_cast<int>(rows * fold->bins);
        Lanes<C> greatest = __builtin_shuffle(most, next_most, *fold->begin);
        for (const Whole<C>* step = fold->begin + 1; step < fold->end; ++step) {
          const Lanes<C> value = __builtin_shuffle(most, next_most, *step);
          greatest = value > greatest ? value : greatest;
        }
        store(out + bin, greatest, bins);
        if constexpr (finds) {
          first += first_down;
          next_first += next_first_down;
          Pixels<C> soonest = all_pixels<C>(kNoPixel);
          for (const Whole<C>* step = fold->begin; step < fold->end; ++step) {
            const Pixels<C> pixel = __builtin_shuffle(first, next_first, *step);
            const Pixels<C> sooner = pixel < soonest ? pixel : soonest;
            soonest = __builtin_shuffle(most, next_most, *step) == greatest ? sooner : soonest;
          }
          store_pixels<C>(argmax + bin, soonest, bins);
        }
      }
    }
    return !any_nan<C>(sum + next_sum);
  }

 private:
  static constexpr int64_t kMostFolds = 8, kMostSteps = 32;
  using Index = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;

  const RoiBins* roi_;
  int64_t height_, width_;  // in bins
  int64_t rows_;            // of bins at once
  int64_t depth_;           // rows of the map that a bin has at most
  Fold<C> folds_[kMostFolds];
  Whole<C> steps_[kMostSteps];
  int64_t count_ = 0;

  static uint32_t mask_of(int64_t columns) {
    return columns <= 0 ? 0 : columns < kLanes<C> ? (1u << columns) - 1u : (1u << kLanes<C>)-1u;
  }

  /// Of the bins [first, last) the i-th columns, or the last ones of those that have fewer.
  Whole<C> lanes_of(int64_t first, int64_t last, int64_t i) const {
    Whole<C> lanes{};
    for (int64_t q = first; q < last; ++q) {
      const int64_t column = std::min<int64_t>(roi_->column_begin[q] + i, roi_->column_end[q] - 1);
      lanes[q - first] = static_cast<Index>(column - roi_->column_begin[first]);
      if (rows_ == 2) lanes[width_ + q] = lanes[q - first] + kLanes<C>;
    }
    return lanes;
  }

  /// Where the rows of a bin begin in a plane, from the first to the one returned; of a bin without any, the map's.
  int64_t rows_of(int64_t p, int64_t row_size, int64_t& first) const {
    const bool is_empty = roi_->row_begin[p] >= roi_->row_end[p];
    first = is_empty ? 0 : roi_->row_begin[p] * row_size;
    return is_empty ? 0 : (roi_->row_end[p] - 1) * row_size;
  }

  template <bool finds>
  static VISIONOPS_INLINE void take_greater(const Lanes<C>& value, const Pixels<C>& pixel, Lanes<C>& most,
                                            Pixels<C>& first, Lanes<C>& sum) {
    const auto take = value > most;
    most = take ? value : most;
    if constexpr (finds) first = take ? pixel : first;
    sum += value;
  }
};

}  // namespace visionops::VISIONOPS_ISA

#endif
