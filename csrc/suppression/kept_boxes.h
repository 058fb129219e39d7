// The boxes that suppression has kept so far, in a grid over their centres: does one of them suppress this box?
//
// Why a few cells are enough. Along x, let two boxes have widths w, w' and centres c, c', and let their intervals share
// a length s. The intersection is at most s·min(h, h'), so
//   IoU <= s / (w + w' - s),   s <= w,   s <= (w + w') / 2 - |c - c'|.
// Hence IoU > t asks for s > (w + w')·t / (1 + t), and that for
//   w' < w / t   and   |c - c'| < (w + w')·(1 - t) / (2 (1 + t)),
// and likewise along y. Sides and areas are rounded, so t is taken a little lower and the distance a little wider.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/box.h"

namespace visionops::VISIONOPS_ISA {

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

template <class T>
class KeptBoxes {
  static constexpr int kLanes = 64 / sizeof(T);

  struct alignas(64) Block {
    T x1[kLanes], y1[kLanes], x2[kLanes], y2[kLanes], area[kLanes];
    int32_t older;  // block of the same cell, -1 after the last
  };

  struct Cell {
    int32_t newest;  // block, -1 if none
    int32_t boxes;
  };

  static constexpr int64_t cell_bytes(int64_t cells) { return (cells * int64_t{sizeof(Cell)} + 63) / 64 * 64; }

 public:
  /// Enough for `boxes` boxes in a grid of `cells` cells, each of which may have one block that is not full.
  static constexpr int64_t bytes(int64_t boxes, int64_t cells) {
    return cell_bytes(cells) + (boxes / kLanes + cells) * int64_t{sizeof(Block)};
  }

  KeptBoxes(const Rule<T>& rule, const Axis& x_axis, const Axis& y_axis, char* memory)
      : rule_(rule), x_axis_(x_axis), y_axis_(y_axis), cells_(reinterpret_cast<Cell*>(memory)) {
    const int64_t cells = int64_t{x_axis.cells} * y_axis.cells;
    for (int64_t i = 0; i < cells; ++i) cells_[i] = Cell{-1, 0};
    blocks_ = reinterpret_cast<Block*>(memory + cell_bytes(cells));
  }

  bool suppress(const Candidate<T>& candidate) const {
    const Bound<T>& bound = rule_.bound(candidate.area);
    // The box's own cell is the likeliest to hold its suppressor.
    const int64_t home = cell_of(candidate);
    if (suppressed_in(home, candidate, bound.share)) return true;
    const double dx = reach(bound, candidate.x, candidate.width, widest_);
    const double dy = reach(bound, candidate.y, candidate.height, tallest_);
    const int32_t left = x_axis_.cell(candidate.x - dx), right = x_axis_.cell(candidate.x + dx);
    const int32_t top = y_axis_.cell(candidate.y - dy), bottom = y_axis_.cell(candidate.y + dy);
    for (int32_t row = top; row <= bottom; ++row) {
      for (int32_t column = left; column <= right; ++column) {
        const int64_t cell = int64_t{row} * x_axis_.cells + column;
        if (cell != home && suppressed_in(cell, candidate, bound.share)) return true;
      }
    }
    return false;
  }

  void add(const Candidate<T>& kept) {
    Cell& cell = cells_[cell_of(kept)];
    const int32_t lane = cell.boxes++ % kLanes;
    if (lane == 0) {
      open_block(cell.newest);
      cell.newest = used_++;
    }
    Block& block = blocks_[cell.newest];
    block.x1[lane] = kept.box.x1;
    block.y1[lane] = kept.box.y1;
    block.x2[lane] = kept.box.x2;
    block.y2[lane] = kept.box.y2;
    block.area[lane] = kept.area;
    widest_ = larger(widest_, kept.width);
    tallest_ = larger(tallest_, kept.height);
  }

 private:
  using Any = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;  // GCC 12 does not vectorise over a bool

  int64_t cell_of(const Candidate<T>& box) const {
    return int64_t{y_axis_.cell(box.y)} * x_axis_.cells + x_axis_.cell(box.x);
  }

  /// Empty lanes hold a box that overlaps nothing.
  void open_block(int32_t older) {
    constexpr T inf = std::numeric_limits<T>::infinity();
    Block& block = blocks_[used_];
    for (int i = 0; i < kLanes; ++i) {
      block.x1[i] = block.y1[i] = inf;
      block.x2[i] = block.y2[i] = -inf;
      block.area[i] = 0;
    }
    block.older = older;
  }

  /// How far from `centre` a suppressor's centre may be. The offset's share is for sides that nearly cancel to -1.
  double reach(const Bound<T>& bound, double centre, double length, double longest) const {
    const double both = length + smaller(longest, bound.stretch * length);
    return bound.reach * both + 0x1p-18 * (both + rule_.offset) + 0x1p-50 * larger(centre, -centre);
  }

  bool suppressed_in(int64_t cell, const Candidate<T>& candidate, T share) const {
    for (int32_t i = cells_[cell].newest; i >= 0; i = blocks_[i].older) {
      if (may_suppress(blocks_[i], candidate, share) && suppresses(blocks_[i], candidate)) return true;
    }
    return false;
  }

  /// No suppressor fails this, and few others pass it: the division is left to them.
  bool may_suppress(const Block& block, const Candidate<T>& candidate, T share) const {
    const Box<T> box = candidate.box;
    Any any = 0;
    for (int i = 0; i < kLanes; ++i) {
      const T width = (smaller(block.x2[i], box.x2) - larger(block.x1[i], box.x1)) + rule_.offset;
      const T height = (smaller(block.y2[i], box.y2) - larger(block.y1[i], box.y1)) + rule_.offset;
      any |= larger(width, T(0)) * height > share * (block.area[i] + candidate.area);
    }
    return any != 0;
  }

  bool suppresses(const Block& block, const Candidate<T>& candidate) const {
    Any any = 0;
    for (int i = 0; i < kLanes; ++i) {
      const Box<T> other{block.x1[i], block.y1[i], block.x2[i], block.y2[i]};
      any |= iou(other, block.area[i], candidate.box, candidate.area, rule_.offset) > rule_.threshold;
    }
    return any != 0;
  }

  Rule<T> rule_;
  Axis x_axis_, y_axis_;
  Cell* cells_;
  Block* blocks_;
  int32_t used_ = 0;
  double widest_ = 0, tallest_ = 0;
};

}  // namespace visionops::VISIONOPS_ISA
