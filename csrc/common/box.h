// The geometry of axis-aligned boxes: one definition for every kernel, on host and device.
//
// These few operations decide which box non-maximum suppression keeps, so each is rounded once and in this order:
// files that include this header are compiled without fused multiply-add.
#pragma once

#include "common/target.h"

namespace visionops::VISIONOPS_ISA {

template <class T>
struct Box {
  T x1, y1, x2, y2;
};

template <class T>
VISIONOPS_HD inline T smaller(T a, T b) {
  return a < b ? a : b;
}

template <class T>
VISIONOPS_HD inline T larger(T a, T b) {
  return a > b ? a : b;
}

/// Length of [low, high]: 0 if inverted, NaN if either end is. `offset` is 1 where high names the last pixel inside.
template <class T>
VISIONOPS_HD inline T side(T low, T high, T offset) {
  const T length = (high - low) + offset;
  return length < 0 ? T(0) : length;
}

template <class T>
VISIONOPS_HD inline T area(const Box<T>& box, T offset) {
  return side(box.x1, box.x2, offset) * side(box.y1, box.y2, offset);
}

/// Where the offset is 0, `with_offset` false saves two instructions of box_iou's sixteen: the benchmarks' row IOU-100.
template <bool with_offset = true, class T>
VISIONOPS_HD inline T intersection(const Box<T>& a, const Box<T>& b, T offset) {
  // As side(), but by a maximum, which with a constant 0 GCC 12 makes a comparison and a masked move.
  const T zero = offset - offset;
  T width = smaller(a.x2, b.x2) - larger(a.x1, b.x1), height = smaller(a.y2, b.y2) - larger(a.y1, b.y1);
  if constexpr (with_offset) {
    width += offset;
    height += offset;
  }
  return larger(zero, width) * larger(zero, height);
}

/// numerator / denominator, 0 where that is not finite: empty, infinite and NaN boxes overlap nothing.
template <class T>
VISIONOPS_HD inline T ratio(T numerator, T denominator) {
  const T quotient = numerator / denominator;
  return quotient - quotient == 0 ? quotient : T(0);
}

/// What part of an area another one is that holds it: in [0, 1], and 0 where both are empty, infinite or NaN.
/// A `zero` that is no constant makes it one instruction less, as in intersection().
template <class T>
VISIONOPS_HD inline T share(T part, T whole, T zero = T(0)) {
  return larger(part / whole, zero);
}

/// Intersection over union of two boxes whose areas are known.
template <class T>
VISIONOPS_HD inline T iou(const Box<T>& a, T area_a, const Box<T>& b, T area_b, T offset) {
  const T inter = intersection(a, b, offset);
  return share(inter, (area_a + area_b) - inter, offset - offset);
}

}  // namespace visionops::VISIONOPS_ISA
