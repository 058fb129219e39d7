// A grid over the centres of a segment's boxes, and how far from a box's centre those can lie that it overlaps enough.
//
// Why a few cells are enough. Along x, let two boxes have widths w, w' and centres c, c', and let their intervals share
// a length s. The intersection is at most s·min(h, h'), so
//   IoU <= s / (w + w' - s),   s <= w,   s <= (w + w') / 2 - |c - c'|.
// Hence IoU > t asks for s > (w + w')·t / (1 + t), and that for
//   w' < w / t   and   |c - c'| < (w + w')·(1 - t) / (2 (1 + t)),
// and likewise along y. Sides and areas are rounded, so t is taken a little lower and the distance a little wider.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/box.h"
#include "suppression/segment_workspace.h"

namespace visionops::VISIONOPS_ISA {

// Measured.
constexpr int64_t kBoxesPerCell = 32;

/// What two boxes must satisfy if their IoU is to exceed t.
template <class T>
struct Bound {
  T share;         // intersection > share·(A + B)
  double reach;    // |c - c'| < reach·(w + w')
  double stretch;  // w' < stretch·w

  explicit Bound(double t) : share(static_cast<T>(t / (1 + t))), reach((1 - t) / (2 * (1 + t))), stretch(1 / t) {}
};

/// When one box suppresses another, and what shows beforehand that it does not.
template <class T>
struct Rule {
  T threshold;  // in [0, 1)
  T offset;
  Bound<T> exceeds, overlaps;

  /// The slack is many times the rounding errors of an IoU, yet lets few pairs through.
  Rule(T threshold, T offset)
      : threshold(threshold), offset(offset), exceeds(threshold * (1 - 0x1p-16)), overlaps(0.0) {}

  /// Intersections among the subnormals round by more than any slack: of such boxes only an overlap can be asked.
  const Bound<T>& bound(T area) const {
    return area * threshold < 4 * std::numeric_limits<T>::min() ? overlaps : exceeds;
  }
};

template <class T>
struct Candidate {
  Box<T> box;
  T area;
  double x, y, width, height;  // centre and sides

  Candidate(const Box<T>& from, T offset)
      : box(from),
        area(visionops::VISIONOPS_ISA::area(from, offset)),
        x(0.5 * from.x1 + 0.5 * from.x2),
        y(0.5 * from.y1 + 0.5 * from.y2),
        width(side(from.x1, from.x2, offset)),
        height(side(from.y1, from.y2, offset)) {}

  /// A box of no, infinite or NaN area has an IoU of 0 with every box. All others have finite coordinates.
  bool interacts() const { return area > 0 && area <= std::numeric_limits<T>::max(); }
};

/// Cells along one axis; the outer ones reach to infinity.
struct Axis {
  double origin = 0, per_unit = 0;
  int32_t cells = 1;

  /// Monotonic, so that what lies between two centres lies between their cells.
  int32_t cell(double centre) const {
    const double position = (centre - origin) * per_unit;
    return static_cast<int32_t>(smaller(larger(0.0, position), cells - 1.0));
  }
};

/// How far from a box's `centre` another's may be, with sides of `length` and up to `longest`, for the bound to hold.
/// The offset's share is for sides that nearly cancel to -1.
template <class T>
double reach(const Bound<T>& bound, T offset, double centre, double length, double longest) {
  const double both = length + smaller(longest, bound.stretch * length);
  return bound.reach * both + 0x1p-18 * (both + offset) + 0x1p-50 * larger(centre, -centre);
}

/// Some of a segment's boxes, each measure sorted: far or huge boxes stand at the ends and do not stretch the grid.
struct Sample {
  static constexpr int kMost = 32;
  double x[kMost], y[kMost], width[kMost], height[kMost];
  int size = 0;

  template <class T>
  void add(const Candidate<T>& box) {
    insert(x, box.x);
    insert(y, box.y);
    insert(width, box.width);
    insert(height, box.height);
    ++size;
  }

 private:
  void insert(double* sorted, double value) {
    int hole = size;
    for (; hole > 0 && sorted[hole - 1] > value; --hole) sorted[hole] = sorted[hole - 1];
    sorted[hole] = value;
  }
};

/// Along one axis: where most centres lie, and the distance from which a box of middling side is suppressed.
struct Span {
  double low, length, reach;

  template <class C>
  Span(const double* centres, const double* sides, int size, const Bound<C>& bound) {
    // The middle three quarters, widened to what the whole would be were it uniform.
    const double first = centres[size / 8], last = centres[size - 1 - size / 8];
    length = (last - first) * 4 / 3;
    low = first - length / 8;
    const double side = sides[size / 2];
    reach = bound.reach * (side + smaller(sides[size - 1], bound.stretch * side));
  }

  Axis divide(double cell, int64_t most) const {
    // Measured: smaller cells than this are too many to visit.
    const double wanted = length / larger(cell, 0.7 * reach);
    const int64_t cells = wanted >= most ? most : wanted >= 1 ? static_cast<int64_t>(wanted) : 1;
    const double per_unit = cells / length;
    // Coordinates among the subnormals or near the largest number: one cell is slow and safe.
    if (!(per_unit > 0x1p-900 && per_unit < 0x1p900)) return Axis{};
    return Axis{low, per_unit, static_cast<int32_t>(cells)};
  }
};

struct Grid {
  Axis x, y;

  int64_t cells() const { return int64_t{x.cells} * y.cells; }

  template <class T>
  int64_t cell(const Candidate<T>& box) const {
    return int64_t{y.cell(box.y)} * x.cells + x.cell(box.x);
  }
};

/// Cells of some kBoxesPerCell boxes, no smaller than makes sense for pairs within the bound; few at the outskirts.
template <class T, class C = Compute<T>>
Grid lay_out_grid(const SegmentBoxes<T>& segment, const Bound<C>& bound, C offset) {
  Sample sample;
  for (int64_t i = 0; i < Sample::kMost; ++i) {
    const Candidate<C> box(load_box(segment.address(segment.size * i / Sample::kMost)), offset);
    if (box.interacts()) sample.add(box);
  }
  if (sample.size == 0) return Grid{};
  const Span across(sample.x, sample.width, sample.size, bound);
  const Span down(sample.y, sample.height, sample.size, bound);
  const int64_t cells = segment.size / kBoxesPerCell;
  const double cell = std::sqrt(across.length * down.length / cells);
  const Axis x_axis = across.divide(cell, cells);
  return Grid{x_axis, down.divide(cell, cells / x_axis.cells)};
}

}  // namespace visionops::VISIONOPS_ISA
