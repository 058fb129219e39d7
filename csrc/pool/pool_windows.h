// Pooling window by window, or bin by bin: channels are the vectors, and a window's taps are a few pointers.
//
// For images of enough channels and windows of few taps, or that hardly overlap, it is quicker than by rows: every
// pixel is read where it is.
#pragma once

#include "common/lanes.h"
#include "pool/adaptive_pool2d.h"
#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {

// Channels folded at a time.
constexpr int64_t kFoldedChannels = 256;

inline bool pool_has_few_taps(const PoolShape& shape) {
  constexpr int64_t few_taps = 16;
  const int64_t taps = shape.y.kernel * shape.x.kernel, apart = shape.y.stride * shape.x.stride;
  return taps <= pool_max(few_taps, 2 * apart);
}

inline bool pool_by_windows(const PoolShape& shape) {
  return shape.inner >= kPoolLanes<float> && pool_has_few_taps(shape);
}

/// Of a window along an axis: its first pixel in the image, how many there are and how far apart, and the first's
/// number.
struct WindowPixels {
  int64_t first, count, step, number;
};

inline WindowPixels pixels_of(const PoolAxis& axis, int64_t o) {
  const PoolTaps taps(axis, o);
  return {o * axis.stride - axis.padding + taps.begin * axis.dilation, taps.end - taps.begin, axis.dilation,
          taps.begin};
}

inline WindowPixels pixels_of(const AdaptiveAxis& axis, int64_t o) {
  const AdaptiveBin bin(axis, o);
  return {bin.begin, bin.end - bin.begin, 1, bin.begin};
}

/// What a step down adds to a number: the taps of a window's row, or in bins, which number pixels, the image's.
inline int64_t numbers_in_row(const PoolShape& shape) { return shape.x.kernel; }

inline int64_t numbers_in_row(const AdaptiveShape& shape) { return shape.x.in; }

/// Calls f(integral_constant<int, K>) with K == taps, of 1 to `most`.
template <int most, class F>
inline void visit_taps_of_fold(int64_t taps, F&& f) {
  if constexpr (most > 1) {
    if (taps < most) return visit_taps_of_fold<most - 1>(taps, f);
  }
  f(std::integral_constant<int, most>{});
}

/// Splits taps into as few passes of at most `most` as there can be: calls f(constant K, first tap) for each.
template <int most, class F>
inline void visit_folds(int64_t taps, F&& f) {
  for (int64_t first = 0; first < taps;) {
    const int64_t left = taps - first;
    // The last two share what is left; without a division, which would cost as much as a pass.
    const int64_t now = left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;
    visit_taps_of_fold<most>(now, [&](auto count) { f(count, first); });
    first += now;
  }
}

/// Widens rows of n values. Not inline: the passes of a fold differ in how many they take.
template <class T, class C>
[[gnu::noinline]] void widen_rows(const T* const* rows, int count, int64_t n, C (*to)[kFoldedChannels]) {
  for (int row = 0; row < count; ++row) widen_in_lanes(rows[row], n, to[row]);
}

/// Walks over the windows of an item's rows. `Fold` makes some channels of a window: start(place in the result), then
/// add<starts>(constant K, pointers, numbers of K <= kTaps taps, channels) for all taps in order, or without any
/// set_empty(channels), then finish(window down, window across, channels).
template <class T, class Shape, class Fold>
class PoolWindowWalk {
 public:
  using C = Compute<T>;

  PoolWindowWalk(const Shape& shape, const T* input, Fold& fold) : shape_(shape), input_(input), fold_(fold) {}

  void run(const PoolItem& item) {
    const int64_t inner = shape_.inner;
    const T* const image = input_ + item.outer * shape_.y.in * shape_.x.in * inner + item.channel;
    for (int64_t p = item.row; p < item.end; ++p) {
      const WindowPixels rows = pixels_of(shape_.y, p);
      for (int64_t q = 0; q < shape_.x.out; ++q) {
        const WindowPixels columns = pixels_of(shape_.x, q);
        const int64_t place = ((item.outer * shape_.y.out + p) * shape_.x.out + q) * inner + item.channel;
        for (int64_t begin = 0; begin < item.channels; begin += kFoldedChannels) {
          const int64_t channels = pool_min(kFoldedChannels, item.channels - begin);
          fold_.start(place + begin);
          fold_window(image + begin, rows, columns, channels);
          fold_.finish(p, q, channels);
        }
      }
    }
  }

 private:
  void fold_window(const T* image, const WindowPixels& rows, const WindowPixels& columns, int64_t channels) {
    if (rows.count == 0 || columns.count == 0) return fold_.set_empty(channels);
    const int64_t across = columns.step * shape_.inner, down = rows.step * shape_.x.in * shape_.inner;
    const int64_t numbers_down = numbers_in_row(shape_);
    const T* tap = image + (rows.first * shape_.x.in + columns.first) * shape_.inner;
    auto number = static_cast<int>(rows.number * numbers_down + columns.number);
    int64_t column = 0;
    visit_folds<Fold::kTaps>(rows.count * columns.count, [&](auto count, int64_t first) {
      constexpr int K = decltype(count)::value;
      const T* at[K];
      int numbers[K];
      for (int k = 0; k < K; ++k) {
        at[k] = tap;
        numbers[k] = number;
        tap += across;
        ++number;
        if (++column == columns.count) {
          column = 0;
          tap += down - columns.count * across;
          number += static_cast<int>(numbers_down - columns.count);
        }
      }
      if (first == 0) {
        add<true>(count, at, numbers, channels);
      } else {
        add<false>(count, at, numbers, channels);
      }
    });
  }

  template <bool starts, int K>
  void add(std::integral_constant<int, K> count, const T* const* at, const int* numbers, int64_t channels) {
    if constexpr (std::is_same_v<T, C>) {
      fold_.template add<starts>(count, at, numbers, channels);
    } else {
      widen_rows(at, K, channels, wide_);
      const C* taps[K];
      for (int k = 0; k < K; ++k) taps[k] = wide_[k];
      fold_.template add<starts>(count, taps, numbers, channels);
    }
  }

  const Shape& shape_;
  const T* input_;
  Fold& fold_;
  alignas(64) C wide_[std::is_same_v<T, C> ? 1 : Fold::kTaps][std::is_same_v<T, C> ? 1 : kFoldedChannels];
};

/// Walks over some items with a fold.
template <class T, class Shape, class Fold>
inline void walk_windows(const Shape& shape, const PoolCut& cut, const T* input, Fold&& fold, int64_t begin,
                         int64_t end) {
  PoolWindowWalk<T, Shape, std::remove_reference_t<Fold>> walk(shape, input, fold);
  for (int64_t index = begin; index < end; ++index) walk.run(cut.item(index));
}

}  // namespace visionops::VISIONOPS_ISA
