// The maxima of some vectors of values, and the numbers of the taps they come from.
#pragma once

#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {

/// Numbers of taps are as wide as values of type C, so that one mask serves both.
template <class C>
using TapNumber = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;

/// Whether a later value takes the place of the best so far: NaNs take any.
template <class C>
inline bool is_better(C value, C best) {
  return (value > best) | (value != value);
}

/// best[i], at[i] = the best of themselves and of K taps, in order.
template <bool with_numbers, int K, class C, class I>
inline void fold_max(const C* const* from, const I* from_numbers, int64_t count, C* __restrict best, I* __restrict at) {
  const C* taps[K];
  I numbers[K];
  for (int k = 0; k < K; ++k) {
    taps[k] = from[k];
    numbers[k] = from_numbers[k];
  }
  for (int64_t i = 0; i < count; ++i) {
    C most = best[i];
    I number = with_numbers ? at[i] : 0;
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      const C value = taps[k][i];
      const bool better = is_better(value, most);
      most = better ? value : most;
      if constexpr (with_numbers) number = better ? numbers[k] : number;
    }
    best[i] = most;
    if constexpr (with_numbers) at[i] = number;
  }
}

}  // namespace visionops::VISIONOPS_ISA
