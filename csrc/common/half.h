// The 16-bit floating types as plain structs, and their conversion to and from float, one value or many.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/target.h"

#if defined(__F16C__) && !defined(__CUDA_ARCH__)
#include <immintrin.h>
#endif

namespace visionops {

// GCC 12 has no __bf16, and CUDA's types need CUDA's headers: both are their bits here.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

namespace VISIONOPS_ISA {

VISIONOPS_HD inline float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

VISIONOPS_HD inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

VISIONOPS_HD inline float to_float(bf16 value) { return float_from_bits(static_cast<uint32_t>(value.bits) << 16); }

VISIONOPS_HD inline float to_float(f16 value) {
#if defined(__F16C__) && !defined(__CUDA_ARCH__)
  return _cvtsh_ss(value.bits);
#else
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_from_bits(sign | 0x7f800000u | (magnitude << 13));
  // Read as a float with a tiny exponent, then scaled: exact for normal and subnormal values alike.
  return float_from_bits(sign | bits_of_float(float_from_bits(magnitude << 13) * 0x1p112f));
#endif
}

/// Rounds to nearest, ties to even; a NaN stays a NaN.
VISIONOPS_HD inline void from_float(float value, bf16& out) {
  const uint32_t bits = bits_of_float(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out.bits = static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

VISIONOPS_HD inline void from_float(float value, f16& out) {
#if defined(__F16C__) && !defined(__CUDA_ARCH__)
  out.bits = static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t bits = bits_of_float(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: adding 1/2 aligns the subnormal's last bit with float's
    half = bits_of_float(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  out.bits = static_cast<uint16_t>(sign | half);
#endif
}

/// Converts n values; the arrays do not overlap. GCC vectorises the bfloat16 loops by itself; float16 needs the
/// conversion instructions. Not inline, for every place that calls them would compile loops of its own.
[[gnu::noinline, gnu::noclone]] inline void widen(const bf16* __restrict from, float* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = to_float(from[i]);
}

[[gnu::noinline, gnu::noclone]] inline void narrow(const float* __restrict from, bf16* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) from_float(from[i], to[i]);
}

[[gnu::noinline, gnu::noclone]] inline void widen(const f16* from, float* to, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__) && !defined(__CUDA_ARCH__)
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
#endif
  for (; i < n; ++i) to[i] = to_float(from[i]);
}

[[gnu::noinline, gnu::noclone]] inline void narrow(const float* from, f16* to, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__) && !defined(__CUDA_ARCH__)
  for (; i + 8 <= n; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), halves);
  }
#endif
  for (; i < n; ++i) from_float(from[i], to[i]);
}

/// Computes n items of a 16-bit type in float, by chunks on the stack: f(in, out, count) for in_size values an item in
/// and out_size out. Converting value by value would cost more than most of what is computed.
template <int in_size, int out_size, class T, class F>
inline void through_float(const T* in, T* out, int64_t n, F&& f) {
  constexpr int64_t chunk = 256;
  float wide_in[in_size * chunk];
  float wide_out[out_size * chunk];
  for (int64_t i = 0; i < n; i += chunk) {
    const int64_t count = n - i < chunk ? n - i : chunk;
    widen(in + in_size * i, wide_in, in_size * count);
    f(static_cast<const float*>(wide_in), static_cast<float*>(wide_out), count);
    narrow(wide_out, out + out_size * i, out_size * count);
  }
}

}  // namespace VISIONOPS_ISA
}  // namespace visionops
