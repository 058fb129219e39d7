// One bit an element that tells the slope of a kinked activation: written forward, read backward.
#pragma once

#include "common/activation.h"
#include "common/lanes.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace visionops::VISIONOPS_ISA {

/// Bytes that hold the bits of n elements.
constexpr int64_t bit_bytes(int64_t n) { return (n + 7) / 8; }

template <Activation a, class C>
inline unsigned steep_bits(const C* x, int64_t count) {
  unsigned bits = 0;
  for (int64_t k = 0; k < count; ++k) bits |= static_cast<unsigned>(is_steep<a>(x[k])) << k;
  return bits;
}

// A comparison leaves its bits in a register that plain loops do not reach.
#if defined(__AVX512F__)
template <Activation a>
inline unsigned steep_bits_of_16(const float* x) {
  const __m512 values = _mm512_loadu_ps(x);
  __mmask16 bits = _mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_GT_OQ);
  if (a == Activation::relu6) bits &= _mm512_cmp_ps_mask(values, _mm512_set1_ps(6), _CMP_LT_OQ);
  return bits;
}
#elif defined(__AVX2__)
template <Activation a>
inline unsigned steep_bits_of_8(const float* x) {
  const __m256 values = _mm256_loadu_ps(x);
  __m256 steep = _mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_GT_OQ);
  if (a == Activation::relu6) steep = _mm256_and_ps(steep, _mm256_cmp_ps(values, _mm256_set1_ps(6), _CMP_LT_OQ));
  return static_cast<unsigned>(_mm256_movemask_ps(steep));
}
template <Activation a>
inline unsigned steep_bits_of_16(const float* x) {
  return steep_bits_of_8<a>(x) | steep_bits_of_8<a>(x + 8) << 8;
}
#elif defined(__SSE2__)
template <Activation a>
inline unsigned steep_bits_of_4(const float* x) {
  const __m128 values = _mm_loadu_ps(x);
  __m128 steep = _mm_cmpgt_ps(values, _mm_setzero_ps());
  if (a == Activation::relu6) steep = _mm_and_ps(steep, _mm_cmplt_ps(values, _mm_set1_ps(6)));
  return static_cast<unsigned>(_mm_movemask_ps(steep));
}
template <Activation a>
inline unsigned steep_bits_of_16(const float* x) {
  return steep_bits_of_4<a>(x) | steep_bits_of_4<a>(x + 4) << 4 | steep_bits_of_4<a>(x + 8) << 8 |
         steep_bits_of_4<a>(x + 12) << 12;
}
#else
template <Activation a>
inline unsigned steep_bits_of_16(const float* x) {
  return steep_bits<a>(x, 16);
}
#endif

template <Activation a>
inline unsigned steep_bits_of_16(const double* x) {
  return steep_bits<a>(x, 16);
}

template <Activation a, class C>
[[gnu::noinline]] void write_bits(const C* x, int64_t n, uint8_t* bits) {
  int64_t i = 0;
  // One store for many bits: each takes a place in the store buffer, where the values wait for their cache lines.
  for (; i + 64 <= n; i += 64) {
    uint64_t bits_of_64 = 0;
    for (int k = 0; k < 64; k += 16) bits_of_64 |= uint64_t{steep_bits_of_16<a>(x + i + k)} << k;
    memcpy(bits + i / 8, &bits_of_64, sizeof bits_of_64);
  }
  for (; i + 16 <= n; i += 16) {
    const auto bits_of_16 = static_cast<uint16_t>(steep_bits_of_16<a>(x + i));
    memcpy(bits + i / 8, &bits_of_16, sizeof bits_of_16);
  }
  for (; i < n; i += 8) {
    bits[i / 8] = static_cast<uint8_t>(steep_bits<a>(x + i, n - i < 8 ? n - i : 8));
  }
}

/// Writes the bits of n elements of a kinked activation; those that fill up the last byte are 0.
template <class C>
void write_bits(Activation activation, const C* x, int64_t n, uint8_t* bits) {
  // leaky_relu is steep where relu is.
  activation == Activation::relu6 ? write_bits<Activation::relu6>(x, n, bits)
                                  : write_bits<Activation::relu>(x, n, bits);
}

/// A gradient where the bits are set, elsewhere(gradient) where not, by vectors; 0 in lanes beyond its elements.
template <class C, class F>
struct Sloped {
  const uint8_t* bits;
  const C* grad;
  F elsewhere;

  VISIONOPS_INLINE Lanes<C> operator()(int64_t i) const { return selected(i, kLanes<C>, load(grad + i)); }
  VISIONOPS_INLINE Lanes<C> operator()(int64_t i, int n) const { return selected(i, n, load(grad + i, n)); }

 private:
  VISIONOPS_INLINE Lanes<C> selected(int64_t i, int n, const Lanes<C>& value) const {
    const int steep = (n > 8 ? bits[i / 8] | bits[i / 8 + 1] << 8 : bits[i / 8]) >> i % 8;
    // Selected by a constant each, for not every instruction set shifts lanes by different counts.
    using Bits = decltype(value < value);
    Bits of_lanes = {};
    for (int lane = 0; lane < kLanes<C>; ++lane) of_lanes[lane] = 1 << lane;
    return ((Bits{} + steep) & of_lanes) != 0 ? value : elsewhere(value);
  }
};

/// Calls use(a gradient times the slope of a kinked activation that the bits tell): itself where it is 1 and nothing
/// where it is 0, infinite as it may be.
template <class C, class Use>
inline void with_sloped(Activation activation, const uint8_t* bits, const C* grad, const Use& use) {
  const C gentle = static_cast<C>(slope_elsewhere(activation));
  const auto nothing = [](const Lanes<C>&) { return Lanes<C>{}; };
  const auto less = [=](const Lanes<C>& value) { return value * gentle; };
  gentle == 0 ? use(Sloped<C, decltype(nothing)>{bits, grad, nothing})
              : use(Sloped<C, decltype(less)>{bits, grad, less});
}

/// The same into `out`.
template <class C>
[[gnu::noinline]] void times_slope_of_bits(Activation activation, const uint8_t* bits, const C* grad, int64_t n,
                                           C* out) {
  with_sloped(activation, bits, grad, [&](const auto& sloped) {
    int64_t i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) store(out + i, sloped(i));
    if (i < n) store(out + i, sloped(i, static_cast<int>(n - i)), static_cast<int>(n - i));
  });
}

}  // namespace visionops::VISIONOPS_ISA
