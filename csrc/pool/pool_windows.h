// Pooling window by window: channels are the vectors, and a window's taps are a few pointers.
//
// For images of enough channels and windows of few taps it is quicker than by rows: every pixel is read where it is.
#pragma once

#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kMostTapsOfWindow = 16;
// Channels folded at a time, and taps of them that are read in one pass.
constexpr int64_t kFoldedChannels = 256;
constexpr int64_t kFoldedTaps = 4;

inline bool pool_by_windows(const PoolShape& shape) {
  return shape.inner >= kPoolLanes<float> && shape.y.kernel * shape.x.kernel <= kMostTapsOfWindow;
}

/// Calls f(integral_constant<int, K>) with K == taps, of 1 to kFoldedTaps.
template <class F>
inline void visit_taps_of_fold(int64_t taps, F&& f) {
  switch (taps) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 3: return f(std::integral_constant<int, 3>{});
    default: return f(std::integral_constant<int, 4>{});
  }
}

/// Splits taps into passes of about equal length, at most kFoldedTaps: calls f(constant K, first tap) for each.
template <class F>
inline void visit_folds(int64_t taps, F&& f) {
  for (int64_t first = 0; first < taps;) {
    const int64_t left = taps - first, passes = pool_ceil_div(left, kFoldedTaps), now = pool_ceil_div(left, passes);
    visit_taps_of_fold(now, [&](auto count) { f(count, first); });
    first += now;
  }
}

/// Walks over the windows of an item's rows. `Fold` has the values of some channels: add<starts>(constant K, pointers,
/// numbers of K taps, channels) for all taps in order, or set_empty(channels) without any, then store(place, window
/// down, window across, channels).
template <class T, class Fold>
class PoolWindowWalk {
 public:
  using C = Compute<T>;

  PoolWindowWalk(const PoolShape& shape, const T* input, Fold& fold) : shape_(shape), input_(input), fold_(fold) {}

  void run(const PoolItem& item) {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    const T* const image = input_ + item.outer * y.in * x.in * shape_.inner + item.channel;
    for (int64_t p = item.row; p < item.end; ++p) {
      const PoolTaps rows(y, p);
      for (int64_t q = 0; q < x.out; ++q) {
        const PoolTaps columns(x, q);
        const int64_t top = p * y.stride - y.padding, left = q * x.stride - x.padding;
        int64_t taps = 0;
        for (int64_t r = rows.begin; r < rows.end; ++r) {
          for (int64_t c = columns.begin; c < columns.end; ++c, ++taps) {
            at_[taps] = image + ((top + r * y.dilation) * x.in + left + c * x.dilation) * shape_.inner;
            numbers_[taps] = static_cast<int>(r * x.kernel + c);
          }
        }
        const int64_t place = ((item.outer * y.out + p) * x.out + q) * shape_.inner + item.channel;
        for (int64_t begin = 0; begin < item.channels; begin += kFoldedChannels) {
          const int64_t channels = pool_min(kFoldedChannels, item.channels - begin);
          if (taps == 0) fold_.set_empty(channels);
          visit_folds(taps, [&](auto count, int64_t first) { add(count, first, begin, channels); });
          fold_.store(place + begin, p, q, channels);
        }
      }
    }
  }

 private:
  template <int K>
  void add(std::integral_constant<int, K> count, int64_t first, int64_t begin, int64_t channels) {
    const C* taps[K];
    for (int k = 0; k < K; ++k) {
      if constexpr (std::is_same_v<T, C>) {
        taps[k] = at_[first + k] + begin;
      } else {
        widen(at_[first + k] + begin, wide_[k], channels);
        taps[k] = wide_[k];
      }
    }
    if (first == 0) {
      fold_.template add<true>(count, taps, numbers_, channels);
    } else {
      fold_.template add<false>(count, taps, numbers_ + first, channels);
    }
  }

  const PoolShape& shape_;
  const T* input_;
  Fold& fold_;
  const T* at_[kMostTapsOfWindow];
  int numbers_[kMostTapsOfWindow];
  alignas(64) C wide_[std::is_same_v<T, C> ? 1 : kFoldedTaps][std::is_same_v<T, C> ? 1 : kFoldedChannels];
};

}  // namespace visionops::VISIONOPS_ISA
