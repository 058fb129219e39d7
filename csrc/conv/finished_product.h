// A product over channels whose tiles take their whole sum at once, where channels are last in memory.
#pragma once

#include "conv/factors.h"
#include "conv/finished_tile.h"

namespace visionops::VISIONOPS_ISA {

/// The pointwise product of (batch, height, width, channels): tiles of positions and filters. A row of tiles lies in
/// the first two caches, the filters of as many tiles as fit in the second.
///
/// Rows says where the left factor comes from:
///   fill(row, rows, to, step): rows of it, `step` apart
///   prefetch(row, rows): asks for what `fill` will read of them for the first time
template <class T, class Rows>
struct FinishedProduct {
  using C = Compute<T>;

  ChannelsLast<T> product;
  Rows source;
  FinishedTile<C> scratch;
  int64_t tile_rows, panels, blocks;
  int64_t packed = -1;  // the block whose panels the scratch holds

  FinishedProduct(const ConvolutionProblem& pointwise, const Rows& source, void* scratch)
      : product(pointwise, 0),
        source(source),
        scratch(product.depth, scratch),
        tile_rows(parts(product.rows, kTileRows)),
        panels(parts(product.columns, kTileColumns<C>)),
        blocks(parts(panels, panels_fitting(product.depth))) {}

  /// How many panels of that depth there is scratch for; a product deeper than one of them is another's.
  static int64_t panels_fitting(int64_t depth) { return FinishedTile<C>::panels_fitting(depth); }

  int64_t items() const { return tile_rows * panels; }

  /// How many tiles to hand out at a time: rows of them, enough to outweigh their edges; 0 if such pieces are few.
  int64_t piece() const {
    constexpr int64_t kPieces = 256, kFewest = 64, kTerms = 1 << 20;
    const int64_t rows = tile_rows * blocks;
    if (rows == 0) return 0;
    const int64_t count = parts(panels, blocks), terms = count * kTileSize<C> * product.depth;
    const int64_t share = parts(rows, kPieces), least = parts(kTerms, terms);
    const int64_t together = share > least ? share : least;
    return rows < kFewest * together ? 0 : together * count;
  }

  void run(int64_t begin, int64_t end) {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t first = cut(panels, blocks, b), count = cut(panels, blocks, b + 1) - first;
      const int64_t from = begin - first * tile_rows, to = end - first * tile_rows, all = count * tile_rows;
      if (to > 0 && from < all) block(b, first, count, from > 0 ? from : 0, to < all ? to : all);
    }
  }

 private:
  int64_t first_row(int64_t r) const { return cut(product.rows, tile_rows, r); }

  int64_t columns(int64_t panel) const {
    const int64_t rest = product.columns - panel * kTileColumns<C>;
    return rest < kTileColumns<C> ? rest : kTileColumns<C>;
  }

  // The tiles [begin, end) of a block, row by row; the first and the last row may be parts.
  void block(int64_t b, int64_t first_panel, int64_t count, int64_t begin, int64_t end) {
    const int64_t r_begin = begin / count, r_end = parts(end, count);
    const int64_t size = product.depth * kTileColumns<C>;
    // Of a single row of tiles, only the panels that it meets.
    const bool single = r_begin + 1 == r_end;
    const int64_t p_begin = single ? begin % count : 0, p_end = single ? end - r_begin * count : count;
    for (int64_t p = p_begin; p < p_end && packed != b; ++p) {
      const int64_t column = (first_panel + p) * kTileColumns<C>;
      product.pack_right(column, columns(first_panel + p), 0, product.depth, scratch.right + p * size);
    }
    if (packed != b) packed = p_end - p_begin == count ? b : -1;
    for (int64_t r = r_begin; r < r_end; ++r) {
      const int64_t row = first_row(r), next = first_row(r + 1);
      const int64_t next_rows = r + 1 < r_end ? first_row(r + 2) - next : 0;
      const int64_t from = r * count < begin ? begin - r * count : 0;
      const int64_t to = (r + 1) * count > end ? end - r * count : count;
      source.fill(row, next - row, scratch.left, scratch.left_step);
      for (int64_t p = from; p < to; ++p) {
        // While these are multiplied, what the next row of tiles reads.
        const int64_t asked = cut(next_rows, to - from, p - from);
        source.prefetch(next + asked, cut(next_rows, to - from, p - from + 1) - asked);
        finish(row, next - row, first_panel + p, scratch.right + p * size);
      }
    }
  }

  void finish(int64_t row, int64_t rows, int64_t panel, const C* factors) const {
    const int64_t column = panel * kTileColumns<C>, count = columns(panel);
    if constexpr (std::is_same_v<T, C>) {
      const Clamp<C> clamp(product.p.activation);
      if (clamp.exact) {
        C* out = product.out + row * product.columns + column;
        const C* bias = product.bias == nullptr ? nullptr : product.bias + column;
        return scratch.multiply(rows, count, factors, out, product.columns, bias, clamp);
      }
    }
    scratch.multiply(rows, count, factors);
    product.store(row, rows, column, count, scratch.tile);
  }
};

}  // namespace visionops::VISIONOPS_ISA
