// Packs masks, eight pixels of a byte at a time, and counts the bits that pairs of them share.
#include "boxes/mask_iou.h"

#include <cstring>

#include "boxes/mask_overlap.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Eight bytes to eight bits: which are not zero.
uint64_t bits_of_bytes(const uint8_t* pixels) {
  uint64_t bytes;
  memcpy(&bytes, pixels, sizeof bytes);
  constexpr uint64_t low_bits = 0x7f7f7f7f7f7f7f7f;
  const uint64_t set = (((bytes & low_bits) + low_bits) | bytes) & ~low_bits;
  // The product brings the top bit of byte k to bit 56 + k.
  return ((set >> 7) * 0x0102040810204080) >> 56;
}

template <class Pixel>
uint64_t bits_of(const Pixel* pixels, int64_t count, Pixel significant) {
  uint64_t word = 0;
  int64_t i = 0;
  if constexpr (sizeof(Pixel) == 1) {
    for (; i + 8 <= count; i += 8) word |= bits_of_bytes(pixels + i) << i;
  }
  for (; i < count; ++i) word |= uint64_t{(pixels[i] & significant) != 0} << i;
  return word;
}

template <class Pixel>
void pack(const void* masks, int64_t pixels, Pixel significant, const PackedMasks& packed, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const Pixel* const mask = static_cast<const Pixel*>(masks) + i * pixels;
    uint64_t* const bits = packed.bits + i * packed.words;
    int64_t area = 0, first = packed.words, last = 0;
    for (int64_t w = 0; w < packed.words; ++w) {
      bits[w] = bits_of(mask + 64 * w, smaller(int64_t{64}, pixels - 64 * w), significant);
      if (bits[w] == 0) continue;
      area += __builtin_popcountll(bits[w]);
      first = smaller(first, w);
      last = w + 1;
    }
    packed.areas[i] = static_cast<int32_t>(area);
    packed.first[i] = static_cast<int32_t>(first);
    packed.last[i] = static_cast<int32_t>(larger(first, last));
  }
}

}  // namespace

void pack_masks(const void* masks, DType dtype, int64_t pixels, const PackedMasks& packed, int64_t begin, int64_t end) {
  // Of a floating type the sign does not count.
  constexpr uint16_t no_sign16 = 0x7fff;
  constexpr uint32_t no_sign32 = 0x7fffffff;
  constexpr uint64_t no_sign64 = 0x7fffffffffffffff;
  switch (dtype) {
    case DType::f16:
    case DType::bf16: return pack<uint16_t>(masks, pixels, no_sign16, packed, begin, end);
    case DType::f32: return pack<uint32_t>(masks, pixels, no_sign32, packed, begin, end);
    case DType::f64: return pack<uint64_t>(masks, pixels, no_sign64, packed, begin, end);
    case DType::i16: return pack<uint16_t>(masks, pixels, 0xffff, packed, begin, end);
    case DType::i32: return pack<uint32_t>(masks, pixels, 0xffffffff, packed, begin, end);
    case DType::i64: return pack<uint64_t>(masks, pixels, ~uint64_t{0}, packed, begin, end);
    default: return pack<uint8_t>(masks, pixels, 0xff, packed, begin, end);
  }
}

void mask_iou(const PackedMasks& masks1, const PackedMasks& masks2, int64_t m, float* iou, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t j = 0; j < m; ++j) iou[i * m + j] = static_cast<float>(mask_iou_of(masks1, i, masks2, j));
  }
}

}  // namespace visionops::VISIONOPS_ISA
