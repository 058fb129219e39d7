// The maxima of some vectors of values, and the numbers of the taps they come from.
#pragma once

#include <limits>
#include <utility>

#include "pool/max_pool2d.h"
#include "pool/pool_windows.h"

namespace visionops::VISIONOPS_ISA {

/// Numbers of taps are as wide as values of type C, so that one mask serves both.
template <class C>
using TapNumber = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;

template <class C>
constexpr C kLowest = -std::numeric_limits<C>::infinity();

// Taps that are read in one pass.
constexpr int kMaxTaps = 4;

/// best[i], at[i] = the best of taps k in order, and before them, unless it starts, of themselves. The numbers of tap k
/// are from_numbers[k], and with `by_column` columns[k][i] more.
///
/// Not inline, for what calls it is compiled for each type of image and result.
template <bool with_numbers, bool starts, bool by_column, class C, class I, size_t... k>
[[gnu::noinline]] void fold_max(std::index_sequence<k...>, const C* const* from, const I* from_numbers,
                                const I* const* from_columns, int64_t count, C* __restrict best, I* __restrict at) {
  const C* const taps[] = {from[k]...};
  const I numbers[] = {from_numbers[k]...};
  const I* const columns[] = {(by_column ? from_columns[k] : nullptr)...};
  for (int64_t i = 0; i < count; ++i) {
    const auto number_of = [&](size_t tap) { return by_column ? numbers[tap] + columns[tap][i] : numbers[tap]; };
    C most = starts ? taps[0][i] : best[i];
    I number = !with_numbers ? 0 : starts ? number_of(0) : at[i];
    const auto take = [&](size_t tap) {
      const C value = taps[tap][i];
      const bool better = is_better(value, most);
      most = better ? value : most;
      if constexpr (with_numbers) number = better ? number_of(tap) : number;
    };
    ((starts && k == 0 ? void() : take(k)), ...);
    best[i] = most;
    if constexpr (with_numbers) at[i] = number;
  }
}

/// The maxima of some channels of a window, for PoolWindowWalk. The numbers of their taps are stored as type O; they
/// are not if it is void.
template <class T, class O>
class MaximumFold {
 public:
  using C = Compute<T>;
  // A window of 3 x 3 in two passes.
  static constexpr int kTaps = 5;

  MaximumFold(T* output, O* numbers) : output_(output), numbers_(numbers) {}

  void start(int64_t place) {
    place_ = place;
    if constexpr (std::is_same_v<T, C>) best_ = output_ + place;
  }

  void set_empty(int64_t channels) {
    for (int64_t i = 0; i < channels; ++i) best_[i] = kLowest<C>;
    for (int64_t i = 0; i < channels; ++i) at_[i] = 0;
  }

  template <bool starts, int K>
  void add(std::integral_constant<int, K>, const C* const* taps, const int* numbers, int64_t channels) {
    TapNumber<C> wide[K];
    for (int k = 0; k < K; ++k) wide[k] = numbers[k];
    constexpr const TapNumber<C>* const* no_columns = nullptr;
    fold_max<kWithNumbers, starts, false>(std::make_index_sequence<K>{}, taps, wide, no_columns, channels, best_, at_);
  }

  void finish(int64_t, int64_t, int64_t channels) {
    if constexpr (!std::is_same_v<T, C>) narrow(best_, output_ + place_, channels);
    if constexpr (kWithNumbers) pool_convert(at_, numbers_ + place_, channels);
  }

 private:
  static constexpr bool kWithNumbers = !std::is_void_v<O>;

  T* output_;
  O* numbers_;
  int64_t place_ = 0;
  alignas(64) C wide_[std::is_same_v<T, C> ? 1 : kFoldedChannels];
  C* best_ = wide_;  // where they are to stand, unless they must be narrowed
  alignas(64) TapNumber<C> at_[kFoldedChannels];
};

}  // namespace visionops::VISIONOPS_ISA
