// Lines of the caches, asked for before they are needed.
#pragma once

#include <cstdint>

#include "common/target.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kLine = 64;  // bytes

// Written in assembly on x86: calls of a function whose only effect is the compiler's own prefetch are dropped, and the
// one for writing needs a flag that no instruction set here has.

/// Asks the second cache for a line.
static inline void prefetch_line(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetcht1 %0" ::"m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 0, 2);
#endif
}

/// Asks for a line that will be written, so that storing a tile waits for no other cache.
static inline void prefetch_to_write(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" ::"m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

}  // namespace visionops::VISIONOPS_ISA
