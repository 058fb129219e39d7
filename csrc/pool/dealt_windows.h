// Pooling by windows of few taps, in rows: these are dealt into phases and kept, so that what all windows of a row have
// at one tap lies together, and all taps are folded in one pass.
#pragma once

#include "common/lanes.h"
#include "common/lines.h"
#include "pool/pool_windows.h"

namespace visionops::VISIONOPS_ISA {

/// Whether taps are few, and folding along each row once, for all windows down that share it, would not save any.
inline bool pool_by_dealt(const PoolShape& shape) {
  constexpr int64_t most_taps = 16;
  const int64_t taps = shape.y.kernel * shape.x.kernel;
  return !pool_by_windows(shape) && taps <= most_taps && taps <= shape.y.stride * shape.x.kernel + shape.y.kernel;
}

/// Rows of values, one for each tap that a row of windows has in the image's rows. Behind the last is room for a
/// vector.
template <class C>
struct DealtTaps {
  const C* const* rows;
  int64_t count;
  int first;  // number of the first one; those of the others follow
};

/// Calls run(std::integral_constant<int, n>, first value, lanes of the last) for n vectors at a time, at most 4: so
/// many hide how long a comparison waits for the one before it.
template <class C, class Run>
VISIONOPS_INLINE void for_vectors(int64_t count, Run&& run) {
  constexpr int64_t most = 4 * kLanes<C>;
  for (int64_t i = 0; i < count; i += most) {
    with_vectors<C>(count - i < most ? count - i : most, [&](auto vectors, int last) { run(vectors, i, last); });
  }
}

template <class C>
class DealtWindows {
 public:
  DealtWindows(const PoolShape& shape, PoolScratch& scratch)
      : shape_(shape),
        kept_(power_of_two(pool_min((shape.y.kernel - 1) * shape.y.dilation + 1 + shape.y.stride, shape.y.in))),
        phases_(shape.x, shape.inner, scratch, kept_),
        wide_(scratch.take<C>(shape.x.in * shape.inner)),
        taps_(scratch.take<const C*>(shape.y.kernel * shape.x.kernel)),
        held_(scratch.take<int64_t>(kept_)) {}

  /// Once the memory is there: the value of the padding.
  void prepare(C padding) { phases_.prepare(padding); }

  /// Calls fold(o, place in the result, taps) for each row of windows.
  template <class T, class Fold>
  void run(const PoolItem& item, const T* input, Fold&& fold) {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    for (int64_t slot = 0; slot < kept_; ++slot) held_[slot] = -1;
    hold(item.outer, item.row, input);
    for (int64_t o = item.row; o < item.end; ++o) {
      // Before this one's are read: what was just stored is not yet to be had at another alignment.
      if (o + 1 < item.end) hold(item.outer, o + 1, input);
      const PoolTaps taps(y, o);
      int64_t count = 0;
      for (int64_t t = taps.begin; t < taps.end; ++t) {
        phases_.taps((o * y.stride - y.padding + t * y.dilation) & (kept_ - 1), taps_ + count);
        count += x.kernel;
      }
      const auto first = static_cast<int>(taps.begin * x.kernel);
      fold(o, (item.outer * y.out + o) * x.out * shape_.inner, DealtTaps<C>{taps_, count, first});
    }
  }

 private:
  /// Asks for what lies some way ahead of a row: rows are read in bursts, and the machine does not foresee what follows
  /// them. Without it POOL-stem-max-NCHW of the benchmarks takes 1.4 times as long.
  template <class T>
  static void prefetch_ahead(const T* row, int64_t count) {
    constexpr int64_t ahead = 4096;
    const char* const from = reinterpret_cast<const char*>(row) + ahead;
    for (int64_t i = 0; i < count * static_cast<int64_t>(sizeof(T)); i += kLine) prefetch_line(from + i);
  }

  static int64_t power_of_two(int64_t least) {
    int64_t power = 1;
    while (power < least) power *= 2;
    return power;
  }

  /// Deals the rows of window row `o`, unless they are held.
  template <class T>
  void hold(int64_t outer, int64_t o, const T* input) {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    const PoolTaps taps(y, o);
    for (int64_t t = taps.begin; t < taps.end; ++t) {
      const int64_t row = o * y.stride - y.padding + t * y.dilation, slot = row & (kept_ - 1);
      if (held_[slot] == row) continue;
      const T* const from = input + (outer * y.in + row) * x.in * shape_.inner;
      prefetch_ahead(from, x.in * shape_.inner);
      const auto pixels = as_compute(from, x.in, shape_.inner, shape_.inner, shape_.inner, wide_);
      phases_.load(pixels.row, pixels.step, shape_.inner, slot);
      held_[slot] = row;
    }
  }

  PoolShape shape_;
  int64_t kept_;  // rows, at least those from the first to the last of a window
  PoolPhases<C> phases_;
  C* wide_;
  const C** taps_;
  int64_t* held_;
};

}  // namespace visionops::VISIONOPS_ISA
