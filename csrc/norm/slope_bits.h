// One bit an element that tells the slope of a kinked activation: written forward, read backward.
#pragma once

#include "common/activation.h"

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
  for (; i + 16 <= n; i += 16) {
    const unsigned sixteen = steep_bits_of_16<a>(x + i);
    bits[i / 8] = static_cast<uint8_t>(sixteen);
    bits[i / 8 + 1] = static_cast<uint8_t>(sixteen >> 8);
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

/// out = grad where the bits are set, elsewhere(grad) where not.
template <class C, class F>
inline void where_bits(const uint8_t* bits, const C* __restrict grad, int64_t n, C* __restrict out,
                       const F& elsewhere) {
  // Selected by a constant each, for not every instruction set shifts lanes by different counts.
  static constexpr int kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const int sixteen = bits[i / 8] | bits[i / 8 + 1] << 8;
#pragma GCC unroll 1
    for (int k = 0; k < 16; ++k) {
      const C value = grad[i + k];
      out[i + k] = (sixteen & kBits[k]) != 0 ? value : elsewhere(value);
    }
  }
  for (; i < n; ++i) out[i] = (bits[i / 8] >> (i % 8) & 1) != 0 ? grad[i] : elsewhere(grad[i]);
}

/// out = grad times the slope of a kinked activation that the bits tell: itself where it is 1 and nothing where it is
/// 0, infinite as it may be.
template <class C>
[[gnu::noinline]] void times_slope_of_bits(Activation activation, const uint8_t* bits, const C* __restrict grad,
                                           int64_t n, C* __restrict out) {
  if (const C gentle = static_cast<C>(slope_elsewhere(activation)); gentle == 0) {
    where_bits(bits, grad, n, out, [](C) { return C(0); });
  } else {
    where_bits(bits, grad, n, out, [=](C value) { return value * gentle; });
  }
}

}  // namespace visionops::VISIONOPS_ISA
