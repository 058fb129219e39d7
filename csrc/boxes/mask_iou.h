// Masks packed to a bit a pixel, and the IoU of every pair of them.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// Masks of one image or many, one after the other. Whoever calls pack_masks allocates.
struct PackedMasks {
  uint64_t* bits;  // (count, words), the last word of a mask filled up with zeros
  int32_t* areas;  // (count), pixels that are set
  int32_t* first;  // (count), the first word that holds any
  int32_t* last;   // (count), one after the last such word; `first` of an empty mask
  int64_t words;
};

/// Words that hold a mask of `pixels` pixels, fewer than 2^31.
constexpr int64_t words_of(int64_t pixels) { return (pixels + 63) / 64; }

/// Packs masks [begin, end) of (count, pixels) contiguous pixels, those set that are not zero: a NaN is, -0.0 is not.
using PackMasks = void(const void* masks, DType dtype, int64_t pixels, const PackedMasks& packed, int64_t begin,
                       int64_t end);
VISIONOPS_KERNEL(PackMasks, pack_masks)

/// Writes rows [begin, end) of the IoU (N, M), 0 of two empty masks.
using MaskIou = void(const PackedMasks& masks1, const PackedMasks& masks2, int64_t m, float* iou, int64_t begin,
                     int64_t end);
VISIONOPS_KERNEL(MaskIou, mask_iou)

}  // namespace visionops
