// Pixels that two packed masks share.
#pragma once

#include "boxes/mask_iou.h"
#include "common/box.h"

namespace visionops::VISIONOPS_ISA {

/// Only the words are read in which both masks have pixels.
inline int64_t common_pixels(const PackedMasks& a, int64_t i, const PackedMasks& b, int64_t j) {
  const int64_t begin = larger(a.first[i], b.first[j]), end = smaller(a.last[i], b.last[j]);
  const uint64_t *x = a.bits + i * a.words, *y = b.bits + j * b.words;
  int64_t count[4] = {0, 0, 0, 0};
  int64_t w = begin;
  for (; w + 4 <= end; w += 4) {
    for (int k = 0; k < 4; ++k) count[k] += __builtin_popcountll(x[w + k] & y[w + k]);
  }
  for (; w < end; ++w) count[0] += __builtin_popcountll(x[w] & y[w]);
  return (count[0] + count[1]) + (count[2] + count[3]);
}

inline double mask_iou_of(const PackedMasks& a, int64_t i, const PackedMasks& b, int64_t j) {
  const int64_t common = common_pixels(a, i, b, j);
  const int64_t both = int64_t{a.areas[i]} + b.areas[j] - common;
  return common > 0 ? static_cast<double>(common) / static_cast<double>(both) : 0.0;
}

}  // namespace visionops::VISIONOPS_ISA
