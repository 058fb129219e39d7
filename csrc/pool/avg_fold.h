// The averages of some channels of a window.
#pragma once

#include <utility>

#include "pool/pool_windows.h"

namespace visionops::VISIONOPS_ISA {

/// sums[i] = the sum of taps k, and unless it starts of itself. Not inline, for what calls it is compiled for each type
/// of image.
template <bool starts, class C, size_t... k>
[[gnu::noinline]] void fold_sum(std::index_sequence<k...>, const C* const* from, int64_t count, C* __restrict sums) {
  const C* const taps[] = {from[k]...};
  for (int64_t i = 0; i < count; ++i) {
    C sum = 0;
    ((sum += taps[k][i]), ...);
    sums[i] = starts ? sum : sums[i] + sum;
  }
}

/// For PoolWindowWalk. `Divisor` gives what the sum of window (p, q) is divided by. The taps of a pass are summed
/// first: many of them one after the other would lose more bits.
template <class T, class Divisor>
class AverageFold {
 public:
  using C = Compute<T>;
  // A window of 3 x 3 in one pass.
  static constexpr int kTaps = 9;

  AverageFold(Divisor divisor, T* output) : divisor_(divisor), output_(output) {}

  void start(int64_t place) { place_ = place; }

  void set_empty(int64_t channels) {
    for (int64_t i = 0; i < channels; ++i) sums_[i] = 0;
  }

  template <bool starts, int K>
  void add(std::integral_constant<int, K>, const C* const* from, const int*, int64_t channels) {
    fold_sum<starts>(std::make_index_sequence<K>{}, from, channels, sums_);
  }

  void finish(int64_t p, int64_t q, int64_t channels) {
    const auto counted = static_cast<C>(divisor_(p, q));
    if constexpr (std::is_same_v<T, C>) {
      for (int64_t i = 0; i < channels; ++i) output_[place_ + i] = sums_[i] / counted;
    } else {
      for (int64_t i = 0; i < channels; ++i) sums_[i] /= counted;
      narrow(sums_, output_ + place_, channels);
    }
  }

 private:
  Divisor divisor_;
  T* output_;
  int64_t place_ = 0;
  alignas(64) C sums_[kFoldedChannels];
};

template <class T, class Divisor>
AverageFold<T, Divisor> average_fold(Divisor divisor, T* output) {
  return {divisor, output};
}

}  // namespace visionops::VISIONOPS_ISA
