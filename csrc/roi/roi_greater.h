// What RoIPool decides of pixels on the CPU, lane by lane or one at a time: which is greater, which comes first.
#pragma once

#include "common/lanes.h"

namespace visionops::VISIONOPS_ISA {

/// What maxima are taken of: numbers, or a NaN as well, which is the greatest.
enum class Among { numbers, all };

/// Whether a value takes the place of the greatest so far: the first of equal ones stays, and of those that are NaN.
template <Among among, class Value>
VISIONOPS_INLINE auto is_greater(const Value& value, const Value& most) {
  if constexpr (among == Among::numbers) {
    return value > most;
  } else {
    return (value > most) | ((value != value) & (most == most));
  }
}

template <Among among, class Value>
VISIONOPS_INLINE auto is_as_great(const Value& value, const Value& most) {
  if constexpr (among == Among::numbers) {
    return value == most;
  } else {
    return (value == most) | ((value != value) & (most != most));
  }
}

/// The number of a pixel, as wide as a lane.
template <class C>
using Pixel = std::conditional_t<sizeof(C) == 4, uint32_t, uint64_t>;

template <class C>
struct PixelsOf {
  typedef Pixel<C> type __attribute__((vector_size(kVectorBytes)));
};

template <class C>
using Pixels = typename PixelsOf<C>::type;

/// The same number in all lanes.
template <class C>
VISIONOPS_INLINE Pixels<C> all_pixels(int64_t number) {
  return Pixels<C>{} + static_cast<Pixel<C>>(number);
}

/// As many numbers as there are lanes of double.
typedef uint32_t HalfPixels __attribute__((vector_size(kVectorBytes / 2)));

/// The first n lanes, the others 0.
template <class C>
VISIONOPS_INLINE Pixels<C> load_pixels(const uint32_t* from, int n) {
  if constexpr (sizeof(C) == 4) {
    return (Pixels<C>)load(reinterpret_cast<const float*>(from), n);
  } else {
    HalfPixels numbers{};
    memcpy(&numbers, from, static_cast<size_t>(n) * sizeof *from);
    return __builtin_convertvector(numbers, Pixels<C>);
  }
}

/// Stores the first n.
template <class C>
VISIONOPS_INLINE void store_pixels(uint32_t* to, const Pixels<C>& pixels, int n) {
  if constexpr (sizeof(C) == 4) {
    store(reinterpret_cast<float*>(to), (Lanes<float>)pixels, n);
  } else {
    const HalfPixels numbers = __builtin_convertvector(pixels, HalfPixels);
    memcpy(to, &numbers, static_cast<size_t>(n) * sizeof *to);
  }
}

}  // namespace visionops::VISIONOPS_ISA
