// Vectors of the machine's size for kernels on the CPU: loads that widen 16-bit types, loads and stores of a part.
#pragma once

#include <cstring>

#include "common/dtype.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

// Said of vectors that are passed to a function: these are inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

#define VISIONOPS_INLINE inline __attribute__((always_inline))

namespace visionops::VISIONOPS_ISA {

// Of wider vectors than the machine's the compiler compares each lane alone.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class C>
struct LanesOf {
  typedef C type __attribute__((vector_size(kVectorBytes)));
};

template <class C>
using Lanes = typename LanesOf<C>::type;

template <class C>
constexpr int kLanes = kVectorBytes / sizeof(C);

/// The number of lanes over values of storage type T.
template <class T>
constexpr int kLanesOver = kLanes<Compute<T>>;

template <class C>
VISIONOPS_INLINE Lanes<C> all_lanes(C value) {
  return value - Lanes<C>{};
}

/// As many values of a 16-bit type as there are lanes of float.
typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));

// By instruction, for GCC converts a vector to one of twice its size in five of them; of AVX-512's the forms with a
// mask, for GCC 12 warns of its own header in the others.
VISIONOPS_INLINE Lanes<float> widened(const Narrow& bits, bf16) {
  typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
#if defined(__AVX512F__)
  const auto wide = (Wide)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)bits);
#elif defined(__AVX2__)
  const auto wide = (Wide)_mm256_cvtepu16_epi32((__m128i)bits);
#else
  const auto wide = __builtin_convertvector(bits, Wide);
#endif
  return (Lanes<float>)(wide << 16);
}

VISIONOPS_INLINE Lanes<float> widened(const Narrow& bits, f16) {
  Lanes<float> lanes;
#if defined(__AVX512F__)
  lanes = (Lanes<float>)_mm512_maskz_cvtph_ps(0xffff, (__m256i)bits);
#elif defined(__F16C__)
  lanes = (Lanes<float>)_mm256_cvtph_ps((__m128i)bits);
#else
  f16 narrow[kLanes<float>];
  float wide[kLanes<float>];
  memcpy(narrow, &bits, sizeof bits);
  for (int i = 0; i < kLanes<float>; ++i) wide[i] = to_float(narrow[i]);
  memcpy(&lanes, wide, sizeof lanes);
#endif
  return lanes;
}

VISIONOPS_INLINE Narrow narrowed(const Lanes<float>& lanes, bf16) {
  typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
  const auto bits = (Wide)lanes;
  Wide rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  rounded = lanes != lanes ? Wide{} + 0x7fc0u : rounded;
#if defined(__AVX512F__)
  return (Narrow)_mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)rounded);
#elif defined(__AVX2__)
  const __m256i halves = _mm256_packus_epi32((__m256i)rounded, (__m256i)rounded);
  return (Narrow)_mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0b1000));
#else
  return __builtin_convertvector(rounded, Narrow);
#endif
}

VISIONOPS_INLINE Narrow narrowed(const Lanes<float>& lanes, f16) {
#if defined(__AVX512F__)
  return (Narrow)_mm512_maskz_cvtps_ph(0xffff, (__m512)lanes, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (Narrow)_mm256_cvtps_ph((__m256)lanes, _MM_FROUND_TO_NEAREST_INT);
#else
  Narrow bits;
  for (int i = 0; i < kLanes<float>; ++i) {
    f16 narrow;
    from_float(lanes[i], narrow);
    bits[i] = narrow.bits;
  }
  return bits;
#endif
}

template <class T>
VISIONOPS_INLINE Lanes<Compute<T>> load(const T* from) {
  std::conditional_t<sizeof(T) == 2, Narrow, Lanes<Compute<T>>> values;
  memcpy(&values, from, sizeof values);
  if constexpr (sizeof(T) == 2) {
    return widened(values, T{});
  } else {
    return values;
  }
}

#if defined(__AVX512BW__) && defined(__AVX512VL__)
/// The lanes of a mask, the others 0.
template <class T>
VISIONOPS_INLINE Lanes<Compute<T>> load_masked(const T* from, uint32_t mask) {
  if constexpr (std::is_same_v<T, float>) return (Lanes<float>)_mm512_maskz_loadu_ps(mask, from);
  if constexpr (std::is_same_v<T, double>) return (Lanes<double>)_mm512_maskz_loadu_pd(mask, from);
  if constexpr (sizeof(T) == 2) return widened((Narrow)_mm256_maskz_loadu_epi16(mask, from), T{});
}
#endif

/// The first n lanes, the others 0.
template <class T>
VISIONOPS_INLINE Lanes<Compute<T>> load(const T* from, int n) {
  if (n >= kLanesOver<T>) return load(from);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  return load_masked(from, (1u << n) - 1u);
#else
  T part[kLanesOver<T>] = {};
  memcpy(part, from, static_cast<size_t>(n) * sizeof(T));
  return load(static_cast<const T*>(part));
#endif
}

template <class C>
VISIONOPS_INLINE void store(C* to, const Lanes<C>& lanes) {
  memcpy(to, &lanes, sizeof lanes);
}

template <class C>
VISIONOPS_INLINE void store(C* to, const Lanes<C>& lanes, int n) {
  if (n >= kLanes<C>) return store(to, lanes);
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<C, float>) return _mm512_mask_storeu_ps(to, (1u << n) - 1u, (__m512)lanes);
  if constexpr (std::is_same_v<C, double>) return _mm512_mask_storeu_pd(to, (1u << n) - 1u, (__m512d)lanes);
#endif
  memcpy(to, &lanes, static_cast<size_t>(n) * sizeof(C));
}

/// The same of a 16-bit type.
template <class T>
VISIONOPS_INLINE void store_narrow(T* to, const Lanes<float>& lanes, int n) {
  const Narrow bits = narrowed(lanes, T{});
  if (n >= kLanes<float>) {
    memcpy(to, &bits, sizeof bits);
  } else {
    memcpy(to, &bits, static_cast<size_t>(n) * sizeof(T));
  }
}

/// Widens n values where few are widened at a time; the last vector is filled up with zeros. Of many, widen() is as
/// quick, and not compiled in each place.
template <class T>
VISIONOPS_INLINE void widen_in_lanes(const T* from, int64_t n, Compute<T>* to) {
  constexpr int64_t lanes = kLanesOver<T>;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(to + i, load(from + i));
  if (i < n) store(to + i, load(from + i, static_cast<int>(n - i)));
}

/// Whether a lane is NaN.
template <class C>
VISIONOPS_INLINE bool any_nan(const Lanes<C>& lanes) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<C, float>) return _mm512_cmp_ps_mask((__m512)lanes, (__m512)lanes, _CMP_UNORD_Q) != 0;
  if constexpr (std::is_same_v<C, double>) return _mm512_cmp_pd_mask((__m512d)lanes, (__m512d)lanes, _CMP_UNORD_Q) != 0;
#endif
  const auto unordered = lanes != lanes;
  uint64_t words[kVectorBytes / 8], any = 0;
  memcpy(words, &unordered, sizeof words);
  for (const uint64_t word : words) any |= word;
  return any != 0;
}

/// A vector of 8 values.
template <class C>
struct EightOf {
  typedef C type __attribute__((vector_size(8 * sizeof(C))));
};

template <class C>
using Eight = typename EightOf<C>::type;

/// Stores the first n, at most 8.
template <class C>
VISIONOPS_INLINE void store_eight(C* to, const Eight<C>& values, int64_t n) {
#if defined(__AVX512VL__)
  const auto mask = static_cast<__mmask8>((1u << n) - 1u);
  if constexpr (std::is_same_v<C, float>) return _mm256_mask_storeu_ps(to, mask, (__m256)values);
  if constexpr (std::is_same_v<C, double>) return _mm512_mask_storeu_pd(to, mask, (__m512d)values);
#endif
  memcpy(to, &values, static_cast<size_t>(n) * sizeof(C));
}

/// Calls run(std::integral_constant<int, n>, lanes of the last) for the n vectors, at most 4, that hold `count` values.
template <class C, class Run>
VISIONOPS_INLINE void with_vectors(int64_t count, Run&& run) {
  constexpr int lanes = kLanes<C>;
  if (count > 3 * lanes) {
    run(std::integral_constant<int, 4>{}, count < 4 * lanes ? static_cast<int>(count - 3 * lanes) : lanes);
  } else if (count > 2 * lanes) {
    run(std::integral_constant<int, 3>{}, static_cast<int>(count - 2 * lanes));
  } else if (count > lanes) {
    run(std::integral_constant<int, 2>{}, static_cast<int>(count - lanes));
  } else {
    run(std::integral_constant<int, 1>{}, static_cast<int>(count));
  }
}

/// Narrows n values to their storage type, or copies them.
template <class T>
VISIONOPS_INLINE void put(const Compute<T>* from, T* to, int64_t n) {
  if constexpr (std::is_same_v<T, Compute<T>>) {
    memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  } else {
    narrow(from, to, n);
  }
}

}  // namespace visionops::VISIONOPS_ISA
