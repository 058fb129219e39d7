// The maxima of some vectors of values, and the numbers of the taps they come from.
#pragma once

#include <utility>

#include "pool/max_pool2d.h"
#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {

/// Numbers of taps are as wide as values of type C, so that one mask serves both.
template <class C>
using TapNumber = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;

/// best[i], at[i] = the best of taps k in order, and before them, unless it starts, of themselves.
template <bool with_numbers, bool starts, class C, class I, size_t... k>
inline void fold_max(std::index_sequence<k...>, const C* const* from, const I* from_numbers, int64_t count,
                     C* __restrict best, I* __restrict at) {
  const C* const taps[] = {from[k]...};
  const I numbers[] = {from_numbers[k]...};
  for (int64_t i = 0; i < count; ++i) {
    C most = starts ? taps[0][i] : best[i];
    I number = starts ? numbers[0] : with_numbers ? at[i] : 0;
    const auto take = [&](C value, I tap) {
      const bool better = is_better(value, most);
      most = better ? value : most;
      number = better ? tap : number;
    };
    ((starts && k == 0 ? void() : take(taps[k][i], numbers[k])), ...);
    best[i] = most;
    if constexpr (with_numbers) at[i] = number;
  }
}

}  // namespace visionops::VISIONOPS_ISA
