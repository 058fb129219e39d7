// Lines of the caches: asked for before they are needed, and rows of a factor laid out so that theirs do not contend.
#pragma once

#include <cstdint>

#include "common/target.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kLine = 64;  // bytes

// Written in assembly on x86: calls of a function whose only effect is the compiler's own prefetch are dropped, and the
// one for writing needs a flag that no instruction set here has.

/// Asks for a line.
static inline void prefetch_line(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetcht0 %0" ::"m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 0, 3);
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

/// Lines to ask for while something else is computed, one of each row at a time: `along` of each of
/// `down` rows, `step` bytes apart.
struct Ahead {
  const char* first = nullptr;
  int64_t along = 0, down = 0, step = 0;

  void ask(int64_t line) const {
    for (int64_t row = 0; row < down; ++row) prefetch_line(first + row * step + line * kLine);
  }

  /// Part i of `count` of nearly one size.
  Ahead part(int64_t count, int64_t i) const {
    const int64_t begin = along * i / count;
    return {first + begin * kLine, along * (i + 1) / count - begin, down, step};
  }
};

/// How far apart rows of `depth` values are kept: an odd number of lines, so that they fall into different sets of the
/// first cache.
template <class C>
static int64_t row_step(int64_t depth) {
  constexpr int64_t kLanes = kLine / sizeof(C);
  return ((depth + kLanes - 1) / kLanes | 1) * kLanes;
}

}  // namespace visionops::VISIONOPS_ISA
