// Boxes around masks on the CPU: two scans find the outermost rows, then only what lies outside the box so far is read.
#include "boxes/masks_to_boxes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// Pixels are compared as bits. Of a floating type the sign does not count: -0.0 is zero, and a NaN is not.
template <class Bits>
struct Pixels {
  Bits significant;

  /// Whether any of `count` pixels is set: a reduction without a branch, hence vector code.
  template <int64_t count>
  bool any(const Bits* pixels) const {
    Bits seen = 0;
    for (int64_t i = 0; i < count; ++i) seen = static_cast<Bits>(seen | pixels[i]);
    return (seen & significant) != 0;
  }

  bool is_set(Bits pixel) const { return (pixel & significant) != 0; }

  static constexpr int64_t kVector = 64 / static_cast<int64_t>(sizeof(Bits));
  static constexpr int64_t kStride = 8 * kVector;

  /// The first set pixel of [0, count), or count.
  int64_t first(const Bits* pixels, int64_t count) const {
    int64_t i = 0;
    while (i + kStride <= count && !any<kStride>(pixels + i)) i += kStride;
    while (i + kVector <= count && !any<kVector>(pixels + i)) i += kVector;
    // What is left is shorter than a vector: look at the last whole one before going pixel by pixel.
    if (i + kVector > count && count >= kVector && !any<kVector>(pixels + count - kVector)) return count;
    while (i < count && !is_set(pixels[i])) ++i;
    return i;
  }

  /// The last set pixel of [begin, end), or begin - 1.
  int64_t last(const Bits* pixels, int64_t begin, int64_t end) const {
    int64_t i = end;
    while (i - kStride >= begin && !any<kStride>(pixels + i - kStride)) i -= kStride;
    while (i - kVector >= begin && !any<kVector>(pixels + i - kVector)) i -= kVector;
    if (i - kVector < begin && end - begin >= kVector && !any<kVector>(pixels + begin)) return begin - 1;
    while (i > begin && !is_set(pixels[i - 1])) --i;
    return i - 1;
  }
};

template <class Bits>
void boxes_of(const void* masks, Bits significant, int64_t height, int64_t width, float* boxes, int64_t begin,
              int64_t end) {
  const Pixels<Bits> pixels = {significant};
  const int64_t size = height * width;
  for (int64_t i = begin; i < end; ++i) {
    const Bits* mask = static_cast<const Bits*>(masks) + i * size;
    float* box = boxes + 4 * i;
    const int64_t first = pixels.first(mask, size);
    if (first == size) {
      for (int k = 0; k < 4; ++k) box[k] = 0;
      continue;
    }
    const int64_t last = pixels.last(mask, first, size);
    const int64_t top = first / width, bottom = last / width;
    int64_t left = first % width < last % width ? first % width : last % width;
    int64_t right = first % width < last % width ? last % width : first % width;
    for (int64_t y = top; y <= bottom; ++y) {
      const Bits* row = mask + y * width;
      left = pixels.first(row, left);
      right = pixels.last(row, right + 1, width);
    }
    box[0] = static_cast<float>(left);
    box[1] = static_cast<float>(top);
    box[2] = static_cast<float>(right);
    box[3] = static_cast<float>(bottom);
  }
}

}  // namespace

void masks_to_boxes(const void* masks, DType dtype, int64_t height, int64_t width, float* boxes, int64_t begin,
                    int64_t end) {
  constexpr uint16_t no_sign16 = 0x7fff;
  constexpr uint32_t no_sign32 = 0x7fffffff;
  constexpr uint64_t no_sign64 = 0x7fffffffffffffff;
  switch (dtype) {
    case DType::f16:
    case DType::bf16: return boxes_of<uint16_t>(masks, no_sign16, height, width, boxes, begin, end);
    case DType::f32: return boxes_of<uint32_t>(masks, no_sign32, height, width, boxes, begin, end);
    case DType::f64: return boxes_of<uint64_t>(masks, no_sign64, height, width, boxes, begin, end);
    case DType::i16: return boxes_of<uint16_t>(masks, 0xffff, height, width, boxes, begin, end);
    case DType::i32: return boxes_of<uint32_t>(masks, 0xffffffff, height, width, boxes, begin, end);
    case DType::i64: return boxes_of<uint64_t>(masks, ~uint64_t(0), height, width, boxes, begin, end);
    default: return boxes_of<uint8_t>(masks, 0xff, height, width, boxes, begin, end);
  }
}

}  // namespace visionops::VISIONOPS_ISA
