// A blocked matrix product whose factors are packed, block by block, by whoever knows where they come from.
#pragma once

#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {

// Panels of a block of the right factor, which stays in the second cache while the left one passes by.
constexpr int64_t kPanels = 8;
// Tiles whose sums wait for the rest of their terms.
constexpr int64_t kTilesKept = 256;

static inline int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

/// The cut before part i of `count` things in `parts` parts of nearly one size.
static inline int64_t cut(int64_t count, int64_t parts, int64_t i) { return count * i / parts; }

template <class C>
constexpr int64_t kTileSize = kTileRows * kTileColumns<C>;

template <class C>
static int64_t product_scratch_bytes() {
  return sizeof(C) * (kTileRows * kRowStride<C> + kDepth * kPanels * kTileColumns<C> + kTilesKept * kTileSize<C>);
}

/// The product of one group: which tiles there are, and those of a range of them.
///
/// Factors has rows, columns and depth of the product, and
///   pack_left(row, rows, k, depth, to): rows of the left factor, kRowStride apart
///   pack_right(column, columns, k, depth, to): (depth, kTileColumns) of the right one
///   store(row, rows, column, columns, tile): what becomes of a finished tile, whose values it may change
template <class C, class Factors>
struct Product {
  const Factors& factors;
  C* left;
  C* right;
  C* tiles;
  int64_t tile_rows, panels, depths;
  bool by_panels;  // in which order tiles are numbered, so that a range of them needs little of the larger factor

  Product(const Factors& factors, void* scratch)
      : factors(factors),
        left(static_cast<C*>(scratch)),
        right(left + kTileRows * kRowStride<C>),
        tiles(right + kDepth * kPanels * kTileColumns<C>),
        tile_rows(parts(factors.rows, kTileRows)),
        panels(parts(factors.columns, kTileColumns<C>)),
        depths(factors.depth > kDepth ? parts(factors.depth, kDepth) : 1),
        by_panels(factors.columns > factors.rows) {}

  int64_t items() const { return tile_rows * panels; }

  void run(int64_t begin, int64_t end) const {
    const int64_t first = by_panels ? begin / tile_rows : 0, last = by_panels ? parts(end, tile_rows) : panels;
    const int64_t blocks = parts(last - first, kPanels);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t panel = first + cut(last - first, blocks, b),
                    count = first + cut(last - first, blocks, b + 1) - panel;
      const int64_t from = begin - panel * tile_rows, to = end - panel * tile_rows;
      const int64_t all = count * tile_rows;
      if (to > 0 && from < all) block(panel, count, from > 0 ? from : 0, to < all ? to : all);
    }
  }

 private:
  int64_t columns(int64_t panel) const {
    const int64_t left_over = factors.columns - panel * kTileColumns<C>;
    return left_over < kTileColumns<C> ? left_over : kTileColumns<C>;
  }

  // Of a row of a block of `count` panels, the panels whose tiles are among [begin, end) of the block: [from, to).
  struct Some {
    int64_t from, to;
  };

  Some some_of(int64_t row, int64_t count, int64_t begin, int64_t end) const {
    if (by_panels) {
      return {begin > row ? parts(begin - row, tile_rows) : 0, end > row ? parts(end - row, tile_rows) : 0};
    }
    return {row * count < begin ? begin - row * count : 0, (row + 1) * count > end ? end - row * count : count};
  }

  // The tiles [begin, end) of a block; by rows, the first and the last row may be parts, by panels those panels.
  void block(int64_t first_panel, int64_t count, int64_t begin, int64_t end) const {
    const int64_t first_row = by_panels ? 0 : begin / count, last_row = by_panels ? tile_rows : parts(end, count);
    // Rows whose sums wait together, in runs of nearly one size: each run packs the right factor again.
    const int64_t rows_left = last_row - first_row;
    const int64_t kept = depths == 1 ? rows_left : parts(rows_left, parts(rows_left, kTilesKept / count));
    for (int64_t row = first_row; row < last_row; row += kept) {
      const int64_t row_end = row + kept < last_row ? row + kept : last_row;
      for (int64_t d = 0; d < depths; ++d) {
        if (depths > 1 || row == first_row) {
          // Of a single row of tiles, only the panels that it meets.
          const Some some = rows_left == 1 ? some_of(first_row, count, begin, end) : Some{0, count};
          pack_right(first_panel, some.from, some.to, d);
        }
        for (int64_t r = row; r < row_end; ++r) {
          const Some some = some_of(r, count, begin, end);
          if (some.from >= some.to) continue;
          tile_row(r, first_panel, some.from, some.to, d, tiles + (depths == 1 ? 0 : (r - row) * count * kTileSize<C>));
        }
      }
    }
  }

  void pack_right(int64_t first_panel, int64_t from, int64_t to, int64_t d) const {
    const int64_t k = cut(factors.depth, depths, d), depth = cut(factors.depth, depths, d + 1) - k;
    for (int64_t p = from; p < to; ++p) {
      const int64_t panel = first_panel + p;
      factors.pack_right(panel * kTileColumns<C>, columns(panel), k, depth, right + p * kDepth * kTileColumns<C>);
    }
  }

  void tile_row(int64_t r, int64_t first_panel, int64_t from, int64_t to, int64_t d, C* sums) const {
    const int64_t k = cut(factors.depth, depths, d), depth = cut(factors.depth, depths, d + 1) - k;
    const int64_t row = cut(factors.rows, tile_rows, r), rows = cut(factors.rows, tile_rows, r + 1) - row;
    factors.pack_left(row, rows, k, depth, left);
    for (int64_t p = from; p < to; ++p) {
      const int64_t count = columns(first_panel + p);
      C* tile = sums + p * kTileSize<C>;
      multiply_for<C>(rows, count)(left, kRowStride<C>, right + p * kDepth * kTileColumns<C>, depth, d > 0,
                                   TileRows<C>(tile));
      if (d == depths - 1) factors.store(row, rows, (first_panel + p) * kTileColumns<C>, count, tile);
    }
  }
};

}  // namespace visionops::VISIONOPS_ISA
