// How the columns of a RoI's window fall to the bins of a row, as permutations of vectors: the second step of RoIPool.
#pragma once

#include "roi/roi_greater.h"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {

/// Integers as wide as the lanes; comparisons give them, 0 or -1.
template <class C>
using Whole = decltype(Lanes<C>{} == Lanes<C>{});

/// Of a vector of columns, the one that each bin takes: its lane, or kLanes for none.
template <class C>
struct Fold {
  Whole<C> column;
  int64_t first;  // column of the vector, from the window's first
};

/// The folds of one RoI: every column is in one, for every bin that has it.
template <class C>
class Folds {
 public:
  /// Whether there are few enough to be quicker than a bin at a time.
  bool build(const RoiBins& roi, int64_t bins) {
#if defined(__AVX512F__)
    count_ = 0;
    if (bins > kLanes<C>) return false;
    const int64_t left = roi.column_begin[0], right = roi.column_end[bins - 1];
    for (int64_t x = left; x < right; x += kLanes<C>) {
      Whole<C> low = Whole<C>{} + kLanes<C>, most = Whole<C>{} - 1;
      int64_t depth = 0;
      for (int64_t q = 0; q < bins; ++q) {
        const int64_t begin = roi.column_begin[q] > x ? roi.column_begin[q] - x : 0;
        const int64_t end = roi.column_end[q] - x < kLanes<C> ? roi.column_end[q] - x : kLanes<C>;
        if (begin >= end) continue;
        low[q] = static_cast<Index>(begin);
        most[q] = static_cast<Index>(end - 1);
        depth = end - begin > depth ? end - begin : depth;
      }
      if (count_ + depth > kMost) return false;
      // A bin that has fewer takes its last one again.
      for (int64_t i = 0; i < depth; ++i) {
        const Whole<C> next = low + static_cast<Index>(i);
        folds_[count_++] = {(next > most) & (low <= most) ? most : low > most ? low : next, x - left};
      }
    }
    return true;
#else
    // Without an instruction that permutes a vector it costs more than what it saves.
    (void)roi, (void)bins;
    return false;
#endif
  }

  const Fold<C>* begin() const { return folds_; }
  const Fold<C>* end() const { return folds_ + count_; }

 private:
  static constexpr int64_t kMost = 32;
  using Index = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;

  Fold<C> folds_[kMost];
  int64_t count_ = 0;
};

/// Lane q: what bin q takes of the columns that `row` has, or `none`.
template <class C>
VISIONOPS_INLINE Lanes<C> folded(const C* row, const Fold<C>& fold, const Lanes<C>& none) {
  return __builtin_shuffle(load(row + fold.first), none, fold.column);
}

/// The same of the numbers of pixels; of none any.
template <class C>
VISIONOPS_INLINE Pixels<C> folded(const Pixel<C>* row, const Fold<C>& fold) {
  Pixels<C> pixels;
  memcpy(&pixels, row + fold.first, sizeof pixels);
  return __builtin_shuffle(pixels, fold.column);
}

}  // namespace visionops::VISIONOPS_ISA
