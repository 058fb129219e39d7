// Copies that go to memory past the caches, for results larger than these.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/target.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace visionops::VISIONOPS_ISA {

/// Copies n bytes. A line that is written whole and past the cache need not be read first. Call finish_streams after.
inline void stream(const void* from, void* to, int64_t n) {
  auto* target = static_cast<char*>(to);
  const auto* source = static_cast<const char*>(from);
#if defined(__SSE2__)
  const auto unaligned = static_cast<int64_t>(-reinterpret_cast<intptr_t>(target) & 63);
  const int64_t head = unaligned < n ? unaligned : n;
  memcpy(target, source, static_cast<size_t>(head));
  int64_t i = head;
  for (; i + 64 <= n; i += 64) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target + i), _mm512_loadu_si512(source + i));
#elif defined(__AVX__)
    for (int k = 0; k < 64; k += 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i + k),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i + k)));
    }
#else
    for (int k = 0; k < 64; k += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(target + i + k),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i + k)));
    }
#endif
  }
  memcpy(target + i, source + i, static_cast<size_t>(n - i));
#else
  memcpy(target, source, static_cast<size_t>(n));
#endif
}

/// Orders streamed copies before whatever tells other threads of them.
inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace visionops::VISIONOPS_ISA
