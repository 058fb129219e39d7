// Packs masks on whatever threads the caller has, and holds them.
#pragma once

#include <limits>
#include <memory>
#include <stdexcept>

#include "boxes/mask_iou.h"

namespace visionops {

/// Pixels of each of `count` masks that have `total` together. A product of height and width would do but for no masks,
/// where it may overflow.
inline int64_t pixels_of_mask(int64_t count, int64_t total) {
  const int64_t pixels = count > 0 ? total / count : 0;
  if (pixels > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument("masks: expected fewer than 2^31 pixels each");
  }
  return pixels;
}

class MaskPacking {
 public:
  /// Of masks (count, pixels); parallel(count, grain, body) calls body(begin, end) over [0, count).
  template <class Parallel>
  MaskPacking(const void* masks, DType dtype, int64_t count, int64_t pixels, const Parallel& parallel)
      : bits_(new uint64_t[count * words_of(pixels)]), numbers_(new int32_t[3 * count]) {
    int32_t* const numbers = numbers_.get();
    packed_ = {bits_.get(), numbers, numbers + count, numbers + 2 * count, words_of(pixels)};
    parallel(count, kPixelsPerTask / (pixels + 1) + 1,
             [&](int64_t begin, int64_t end) { pack_masks(masks, dtype, pixels, packed_, begin, end); });
  }

  const PackedMasks& packed() const { return packed_; }

 private:
  static constexpr int64_t kPixelsPerTask = 65536;

  std::unique_ptr<uint64_t[]> bits_;
  std::unique_ptr<int32_t[]> numbers_;
  PackedMasks packed_;
};

/// Rows of a matrix of mask IoUs that are worth a task.
inline int64_t mask_iou_grain(const PackedMasks& masks, int64_t m) {
  constexpr int64_t kWordsPerTask = 32768;
  return kWordsPerTask / (masks.words * m + 1) + 1;
}

}  // namespace visionops
