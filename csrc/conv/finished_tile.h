// What products share whose tiles take their whole sum at once, in either layout: scratch, and tiles put where they go.
#pragma once

#include "common/lines.h"
#include "conv/product.h"

namespace visionops::VISIONOPS_ISA {

/// How far apart rows of `depth` values are kept: an odd number of lines, so that they fall into different sets of the
/// first cache.
template <class C>
static int64_t row_step(int64_t depth) {
  constexpr int64_t kLanes = kLine / sizeof(C);
  return ((depth + kLanes - 1) / kLanes | 1) * kLanes;
}

/// A tile's scratch: a row of tiles of the left factor, panels of the right one, and room for values that still change.
template <class C>
struct FinishedTile {
  int64_t depth, left_step;
  C* tile;
  C* left;
  C* right;

  FinishedTile(int64_t depth, void* scratch)
      : depth(depth),
        left_step(row_step<C>(depth)),
        tile(static_cast<C*>(scratch)),
        left(tile + kTileSize<C>),
        right(left + kTileRows * left_step) {}

  /// How many panels of that depth there is scratch for.
  static int64_t panels_fitting(int64_t depth) {
    const int64_t values = product_scratch_bytes<C>() / static_cast<int64_t>(sizeof(C));
    return (values - kTileSize<C> - kTileRows * row_step<C>(depth)) / (depth * kTileColumns<C>);
  }

  /// The tile of a panel's first `columns` columns, to `out`, rows `step` apart, with a bias, which may be null.
  void multiply(int64_t rows, int64_t columns, const C* panel, C* out, int64_t step, const C* bias,
                Clamp<C> clamp) const {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; c += kVector<C>) prefetch_to_write(out + r * step + c);
    }
    multiply_for<C>(rows, columns)(left, left_step, panel, depth, false, TileRows<C>(out, step, bias, clamp, columns));
  }

  /// The same as it is, to `tile`.
  void multiply(int64_t rows, int64_t columns, const C* panel) const {
    multiply_for<C>(rows, columns)(left, left_step, panel, depth, false, TileRows<C>(tile));
  }
};

}  // namespace visionops::VISIONOPS_ISA
