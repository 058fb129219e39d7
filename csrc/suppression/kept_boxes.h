// The boxes that suppression has kept so far, in a grid over their centres: does one of them suppress this box?
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "suppression/grid.h"

namespace visionops::VISIONOPS_ISA {

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

  KeptBoxes(const Rule<T>& rule, const Grid& grid, char* memory)
      : rule_(rule), grid_(grid), cells_(reinterpret_cast<Cell*>(memory)) {
    const int64_t cells = grid.cells();
    for (int64_t i = 0; i < cells; ++i) cells_[i] = Cell{-1, 0};
    blocks_ = reinterpret_cast<Block*>(memory + cell_bytes(cells));
  }

  bool suppress(const Candidate<T>& candidate) const {
    const Bound<T>& bound = rule_.bound(candidate.area);
    // The box's own cell is the likeliest to hold its suppressor.
    const int64_t home = grid_.cell(candidate);
    if (suppressed_in(home, candidate, bound.share)) return true;
    const double dx = reach(bound, rule_.offset, candidate.x, candidate.width, widest_);
    const double dy = reach(bound, rule_.offset, candidate.y, candidate.height, tallest_);
    const int32_t left = grid_.x.cell(candidate.x - dx), right = grid_.x.cell(candidate.x + dx);
    const int32_t top = grid_.y.cell(candidate.y - dy), bottom = grid_.y.cell(candidate.y + dy);
    for (int32_t row = top; row <= bottom; ++row) {
      for (int32_t column = left; column <= right; ++column) {
        const int64_t cell = int64_t{row} * grid_.x.cells + column;
        if (cell != home && suppressed_in(cell, candidate, bound.share)) return true;
      }
    }
    return false;
  }

  void add(const Candidate<T>& kept) {
    Cell& cell = cells_[grid_.cell(kept)];
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
  Grid grid_;
  Cell* cells_;
  Block* blocks_;
  int32_t used_ = 0;
  double widest_ = 0, tallest_ = 0;
};

}  // namespace visionops::VISIONOPS_ISA
