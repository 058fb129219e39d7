// A stable radix sort of keys that carry an index, and the integer keys that put scores in descending order.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/target.h"

namespace visionops::VISIONOPS_ISA {

template <class Key>
struct Keyed {
  Key key;
  int32_t index;
};

/// Unsigned keys that ascend as scores descend; -0 and +0 have one key. A NaN has no place in the order.
VISIONOPS_HD inline uint32_t descending_key(float score) {
  const float unsigned_zero = score + 0.0f;
  uint32_t bits;
  memcpy(&bits, &unsigned_zero, sizeof bits);
  return bits >> 31 ? bits : bits ^ 0x7fffffffu;
}

VISIONOPS_HD inline uint64_t descending_key(double score) {
  const double unsigned_zero = score + 0.0;
  uint64_t bits;
  memcpy(&bits, &unsigned_zero, sizeof bits);
  return bits >> 63 ? bits : bits ^ 0x7fffffffffffffffu;
}

template <class Key>
inline void insertion_sort(Keyed<Key>* items, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const Keyed<Key> item = items[i];
    int64_t hole = i;
    for (; hole > 0 && items[hole - 1].key > item.key; --hole) items[hole] = items[hole - 1];
    items[hole] = item;
  }
}

/// Sorts by ascending key, equal keys in the order given. `spare` is as long as `items`; the result is in the one
/// of the two that is returned.
template <class Key>
inline Keyed<Key>* sort_by_key(Keyed<Key>* items, Keyed<Key>* spare, int64_t n) {
  constexpr int kDigits = sizeof(Key);
  constexpr int64_t kInsertionIsFaster = 48;
  if (n <= kInsertionIsFaster) {
    insertion_sort(items, n);
    return items;
  }
  const auto digit = [](Key key, int d) { return static_cast<uint32_t>(key >> (8 * d)) & 255u; };

  uint32_t counts[kDigits][256];
  memset(counts, 0, sizeof counts);
  for (int64_t i = 0; i < n; ++i) {
    for (int d = 0; d < kDigits; ++d) ++counts[d][digit(items[i].key, d)];
  }
  for (int d = 0; d < kDigits; ++d) {
    // Class ids share most of their digits, and so do 16-bit scores.
    if (counts[d][digit(items[0].key, d)] == n) continue;
    uint32_t position = 0;
    for (uint32_t& count : counts[d]) {
      const uint32_t start = position;
      position += count;
      count = start;
    }
    for (int64_t i = 0; i < n; ++i) spare[counts[d][digit(items[i].key, d)]++] = items[i];
    Keyed<Key>* const sorted = spare;
    spare = items;
    items = sorted;
  }
  return items;
}

}  // namespace visionops::VISIONOPS_ISA
