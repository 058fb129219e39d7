// What box_iou says of one pair of boxes, the gradient of that, and the tiles in which the CPU kernels hold boxes.
#pragma once

#include <cfloat>
#include <cmath>

#include "boxes/box_iou.h"
#include "common/box.h"

namespace visionops::VISIONOPS_ISA {

/// A box with what each of its pairs would otherwise compute again. Only ciou reads the angle.
template <class T>
struct MeasuredBox {
  Box<T> box;
  T area;
  T angle;
};

template <class T>
inline bool is_finite(T value) {
  return value - value == 0;
}

template <class T>
inline T finite_or_zero(T value) {
  return is_finite(value) ? value : T(0);
}

/// atan2(width, height) of two lengths that are not negative, to 2 ulp.
/// Not the C library's in float: this one has no branch, so that a loop over boxes becomes vector code.
inline float aspect_angle(float width, float height) {
  const float shorter = smaller(width, height), longer = larger(width, height);
  // atan(t) = pi/4 + atan((t - 1) / (t + 1)) keeps the argument below tan(pi/8), where Cephes' polynomial holds.
  // Two infinite sides are steep too, two empty ones are not: as atan2 has it.
  const bool steep = longer > 0 && shorter >= 0.41421356f * longer;
  const float tangent = ratio(steep ? shorter - longer : shorter, steep ? shorter + longer : longer);
  const float square = tangent * tangent;
  float series = 8.05374449538e-2f;
  series = series * square - 1.38776856032e-1f;
  series = series * square + 1.99777106478e-1f;
  series = series * square - 3.33329491539e-1f;
  const float rest = series * square * tangent + tangent;
  const float angle = steep ? 0.785398163f + rest : rest;
  return width > height ? 1.57079633f - angle : angle;
}

inline double aspect_angle(double width, double height) { return ::atan2(width, height); }

/// The angle of a box of the given area, NaN where that is NaN: then no pair of the box has an aspect penalty.
template <class T>
inline T angle(const Box<T>& box, T area, T offset) {
  const T value = aspect_angle(side(box.x1, box.x2, offset), side(box.y1, box.y2, offset));
  return area == area ? value : area;
}

/// Signed distance between the centres of two intervals; by differences, for centres far out have few digits left.
template <class T>
inline T centre_distance(T low_a, T high_a, T low_b, T high_b) {
  return ((low_a - low_b) + (high_a - high_b)) / 2;
}

/// ciou's v is this times the squared difference of two angles: 4 / pi^2.
template <class T>
constexpr T kAspectScale = T(0.40528473456935108577551785283891);

/// The value of a pair; finite for every input, 0 for a pair with a NaN box.
template <IouMode mode, bool with_offset, class T>
inline T pair_value(const MeasuredBox<T>& a, const MeasuredBox<T>& b, T offset) {
  const T inter = intersection<with_offset>(a.box, b.box, offset);
  if constexpr (mode == IouMode::iof) return share(inter, a.area, offset - offset);

  const T both = (a.area + b.area) - inter;
  const T iou = share(inter, both, offset - offset);
  if constexpr (mode == IouMode::iou) return iou;

  const T hull_width = side(smaller(a.box.x1, b.box.x1), larger(a.box.x2, b.box.x2), offset);
  const T hull_height = side(smaller(a.box.y1, b.box.y1), larger(a.box.y2, b.box.y2), offset);
  if constexpr (mode == IouMode::giou) {
    const T hull = hull_width * hull_height;
    return iou - ratio(hull - both, hull);
  }

  const T dx = centre_distance(a.box.x1, a.box.x2, b.box.x1, b.box.x2);
  const T dy = centre_distance(a.box.y1, a.box.y2, b.box.y1, b.box.y2);
  const T distance = ratio(dx * dx + dy * dy, hull_width * hull_width + hull_height * hull_height);
  // Above 1 only where a box is inverted, and then without bound.
  const T diou = iou - smaller(distance, T(1));
  if constexpr (mode == IouMode::diou) return diou;

  const T turn = a.angle - b.angle;
  const T aspect = kAspectScale<T> * (turn * turn);
  const T weight = ratio(aspect, (T(1) - iou) + aspect);
  return diou - (weight > 0 ? weight * aspect : T(0));
}

/// A derivative so steep that a sum of 2^31 might overflow counts as not finite: as 0.
template <class T>
inline bool is_usable(T derivative) {
  constexpr T steepest = sizeof(T) == 4 ? T(0x1p96) : T(0x1p992);
  return derivative <= steepest && derivative >= -steepest;
}

template <class T>
inline T usable_or_zero(T derivative) {
  return is_usable(derivative) ? derivative : T(0);
}

/// The partial derivatives of ratio(): both 0 where it is constant or they are not usable.
template <class T>
struct RatioGradient {
  T numerator, denominator;

  RatioGradient(T n, T d) {
    const T inverse = 1 / d;
    const T slope = -(n / d) * inverse;
    const bool both = is_usable(slope) && is_usable(inverse);
    numerator = both ? inverse : T(0);
    denominator = both ? slope : T(0);
  }
};

/// The derivative by my end of an interval, given those by two lengths: of what the smaller and of what the larger
/// of both ends bounds. A tie gives half of each, as torch.minimum and torch.maximum do.
template <class T>
inline T end_gradient(T mine, T theirs, T by_smaller, T by_larger) {
  const T tied = by_smaller / 2 + by_larger / 2;
  return mine < theirs ? by_smaller : mine > theirs ? by_larger : tied;
}

/// The gradient of pair_value with respect to one of its arguments, field by field, every field finite.
/// `mine_first`: mine is pair_value's first argument. ciou's weight counts as a constant.
template <IouMode mode, bool mine_first, class T>
inline MeasuredBox<T> pair_gradient(const MeasuredBox<T>& mine, const MeasuredBox<T>& theirs, T offset) {
  const Box<T>&m = mine.box, &t = theirs.box;
  const T low_x = larger(m.x1, t.x1), high_x = smaller(m.x2, t.x2);
  const T low_y = larger(m.y1, t.y1), high_y = smaller(m.y2, t.y2);
  const T width = side(low_x, high_x, offset), height = side(low_y, high_y, offset);
  const T inter = width * height;
  const T both = (mine.area + theirs.area) - inter;

  MeasuredBox<T> grad;
  T by_inter;
  T by_hull_width = 0, by_hull_height = 0, by_centre_x = 0, by_centre_y = 0;
  grad.angle = 0;
  if constexpr (mode == IouMode::iof) {
    const RatioGradient<T> iof(inter, mine_first ? mine.area : theirs.area);
    by_inter = iof.numerator;
    grad.area = mine_first ? iof.denominator : T(0);
  } else {
    const RatioGradient<T> iou(inter, both);
    T by_both = iou.denominator;
    if constexpr (mode != IouMode::iou) {
      const T left = smaller(m.x1, t.x1), right = larger(m.x2, t.x2);
      const T top = smaller(m.y1, t.y1), bottom = larger(m.y2, t.y2);
      const T hull_width = side(left, right, offset), hull_height = side(top, bottom, offset);
      T by_width, by_height;
      if constexpr (mode == IouMode::giou) {
        const T hull = hull_width * hull_height;
        const RatioGradient<T> waste(hull - both, hull);
        by_both += waste.numerator;
        const T by_hull = -(waste.numerator + waste.denominator);
        by_width = by_hull * hull_height;
        by_height = by_hull * hull_width;
      } else {
        const T dx = centre_distance(m.x1, m.x2, t.x1, t.x2), dy = centre_distance(m.y1, m.y2, t.y1, t.y2);
        const T apart = dx * dx + dy * dy, diagonal = hull_width * hull_width + hull_height * hull_height;
        const RatioGradient<T> distance(apart, diagonal);
        const bool clamped = ratio(apart, diagonal) > 1;
        const T by_apart = clamped ? T(0) : -distance.numerator;
        const T by_diagonal = clamped ? T(0) : -distance.denominator;
        // d(apart)/d(coordinate) is 2 dx / 2: each end moves the centre by half.
        by_centre_x = usable_or_zero(by_apart * dx);
        by_centre_y = usable_or_zero(by_apart * dy);
        by_width = by_diagonal * (2 * hull_width);
        by_height = by_diagonal * (2 * hull_height);
      }
      by_hull_width = (right - left) + offset >= 0 ? usable_or_zero(by_width) : T(0);
      by_hull_height = (bottom - top) + offset >= 0 ? usable_or_zero(by_height) : T(0);
    }
    if constexpr (mode == IouMode::ciou) {
      const T turn = mine.angle - theirs.angle;
      const T aspect = kAspectScale<T> * (turn * turn);
      const T weight = ratio(aspect, (T(1) - share(inter, both)) + aspect);
      grad.angle = weight > 0 ? -weight * (2 * kAspectScale<T> * turn) : T(0);
    }
    by_inter = iou.numerator - by_both;
    grad.area = by_both;
  }

  const T by_width = (high_x - low_x) + offset >= 0 ? usable_or_zero(by_inter * height) : T(0);
  const T by_height = (high_y - low_y) + offset >= 0 ? usable_or_zero(by_inter * width) : T(0);
  grad.box.x1 = by_centre_x - end_gradient(m.x1, t.x1, by_hull_width, by_width);
  grad.box.y1 = by_centre_y - end_gradient(m.y1, t.y1, by_hull_height, by_height);
  grad.box.x2 = by_centre_x + end_gradient(m.x2, t.x2, by_width, by_hull_width);
  grad.box.y2 = by_centre_y + end_gradient(m.y2, t.y2, by_height, by_hull_height);
  return grad;
}

/// The gradient by the four coordinates alone, once those by area and angle are summed over the box's pairs.
template <class T>
inline Box<T> coordinate_gradient(const Box<T>& box, const MeasuredBox<T>& grad, T offset) {
  const T width = side(box.x1, box.x2, offset), height = side(box.y1, box.y2, offset);
  const T diagonal = width * width + height * height;
  const auto chain = [](T outer, T inner) {
    const T product = outer * finite_or_zero(inner);
    return is_finite(outer) ? finite_or_zero(product) : product;  // a NaN that came in goes out
  };
  const T by_width = chain(grad.area, height) + chain(grad.angle, height / diagonal);
  const T by_height = chain(grad.area, width) - chain(grad.angle, width / diagonal);
  const T dx = (box.x2 - box.x1) + offset >= 0 ? by_width : T(0);
  const T dy = (box.y2 - box.y1) + offset >= 0 ? by_height : T(0);
  return {grad.box.x1 - dx, grad.box.y1 - dy, grad.box.x2 + dx, grad.box.y2 + dy};
}

/// Columns of a tile. Six arrays of float take 12 KB: a tile stays in L1 while rows run against it.
constexpr int64_t kTile = 512;

/// One cache line of values: the unit in which loops run, so that nothing depends on the vectors of a machine.
template <class T>
constexpr int64_t kLanes = 64 / static_cast<int64_t>(sizeof(T));

/// Measured boxes as structure of arrays, on the stack: the form in which loops over pairs vectorise.
template <class T>
struct alignas(64) Tile {
  T x1[kTile], y1[kTile], x2[kTile], y2[kTile], area[kTile], angle[kTile];

  MeasuredBox<T> operator[](int64_t i) const { return {{x1[i], y1[i], x2[i], y2[i]}, area[i], angle[i]}; }

  /// Converts the boxes that exist and leaves the rest as it is: a small call pays for nothing more. Not inline, for it
  /// is large, and called in five places for each type of element.
  template <class Element>
  [[gnu::noinline]] void load(const Element* boxes, int64_t count, T offset, bool with_angle) {
    if constexpr (!std::is_same_v<Element, T>) {
      T wide[4 * kTile];
      if constexpr (std::is_integral_v<Element>) {
        for (int64_t i = 0; i < 4 * count; ++i) wide[i] = to_compute(boxes[i]);
      } else {
        widen(boxes, wide, 4 * count);
      }
      load(wide, count, offset, with_angle);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        const Box<T> box = {boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]};
        x1[i] = box.x1;
        y1[i] = box.y1;
        x2[i] = box.x2;
        y2[i] = box.y2;
        area[i] = VISIONOPS_ISA::area(box, offset);
      }
      if (!with_angle) return;
      for (int64_t i = 0; i < count; ++i) {
        angle[i] = VISIONOPS_ISA::angle(Box<T>{x1[i], y1[i], x2[i], y2[i]}, area[i], offset);
      }
    }
  }

  void fill_zero(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x1[i] = y1[i] = x2[i] = y2[i] = area[i] = angle[i] = 0;
  }
};

/// The five modes as types, so that a loop is compiled for each.
template <IouMode value>
struct ModeTag {
  static constexpr IouMode mode = value;
};

template <class F>
inline auto visit_mode(IouMode mode, F&& f) {
  switch (mode) {
    case IouMode::giou: return f(ModeTag<IouMode::giou>{});
    case IouMode::diou: return f(ModeTag<IouMode::diou>{});
    case IouMode::ciou: return f(ModeTag<IouMode::ciou>{});
    case IouMode::iof: return f(ModeTag<IouMode::iof>{});
    default: return f(ModeTag<IouMode::iou>{});
  }
}

inline int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }

}  // namespace visionops::VISIONOPS_ISA
