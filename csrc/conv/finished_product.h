// A product over channels whose tiles take their whole sum at once, where channels are last in memory.
#pragma once

#include "conv/factors.h"
#include "conv/finished_tile.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kLine = 64;  // bytes

// Lines asked for before they are needed, written in assembly on x86: calls of a function whose only effect is the
// compiler's own prefetch are dropped, and the one for writing needs a flag that no instruction set here has.

/// Asks the second cache for a line.
static inline void prefetch_line(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetcht1 %0" ::"m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 0, 2);
#endif
}

/// Asks for a line that will be written, so that storing a tile waits for no other cache.
static inline void prefetch_to_write(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" ::"m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

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
  int64_t depth, tile_rows, panels, blocks, left_step;
  C* tile;
  C* left;
  C* right;

  FinishedProduct(const ConvolutionProblem& pointwise, const Rows& source, void* scratch)
      : product(pointwise, 0),
        source(source),
        depth(product.depth),
        tile_rows(parts(product.rows, kTileRows)),
        panels(parts(product.columns, kTileColumns<C>)),
        blocks(parts(panels, panels_fitting(depth))),
        left_step(row_step(depth)),
        tile(static_cast<C*>(scratch)),
        left(tile + kTileSize<C>),
        right(left + kTileRows * left_step) {}

  /// How many panels of that depth there is scratch for; a product deeper than one of them is another's.
  static int64_t panels_fitting(int64_t depth) {
    const int64_t values = product_scratch_bytes<C>() / static_cast<int64_t>(sizeof(C));
    return (values - kTileSize<C> - kTileRows * row_step(depth)) / (depth * kTileColumns<C>);
  }

  int64_t items() const { return tile_rows * panels; }

  void run(int64_t begin, int64_t end) const {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t first = cut(panels, blocks, b), count = cut(panels, blocks, b + 1) - first;
      const int64_t from = begin - first * tile_rows, to = end - first * tile_rows, all = count * tile_rows;
      if (to > 0 && from < all) block(first, count, from > 0 ? from : 0, to < all ? to : all);
    }
  }

 private:
  // An odd number of lines: rows fall into different sets of the first cache.
  static int64_t row_step(int64_t depth) {
    constexpr int64_t kLanes = kLine / sizeof(C);
    return (parts(depth, kLanes) | 1) * kLanes;
  }

  int64_t first_row(int64_t r) const { return cut(product.rows, tile_rows, r); }

  int64_t columns(int64_t panel) const {
    const int64_t rest = product.columns - panel * kTileColumns<C>;
    return rest < kTileColumns<C> ? rest : kTileColumns<C>;
  }

  // The tiles [begin, end) of a block, row by row; the first and the last row may be parts.
  void block(int64_t first_panel, int64_t count, int64_t begin, int64_t end) const {
    const int64_t r_begin = begin / count, r_end = parts(end, count);
    // Of a single row of tiles, only the panels that it meets.
    const bool single = r_begin + 1 == r_end;
    for (int64_t p = single ? begin % count : 0; p < (single ? end - r_begin * count : count); ++p) {
      const int64_t column = (first_panel + p) * kTileColumns<C>;
      product.pack_right(column, columns(first_panel + p), 0, depth, right + p * depth * kTileColumns<C>);
    }
    for (int64_t r = r_begin; r < r_end; ++r) {
      const int64_t row = first_row(r), next = first_row(r + 1);
      const int64_t next_rows = r + 1 < r_end ? first_row(r + 2) - next : 0;
      const int64_t from = r * count < begin ? begin - r * count : 0;
      const int64_t to = (r + 1) * count > end ? end - r * count : count;
      source.fill(row, next - row, left, left_step);
      for (int64_t p = from; p < to; ++p) {
        // While these are multiplied, what the next row of tiles reads.
        const int64_t asked = cut(next_rows, to - from, p - from);
        source.prefetch(next + asked, cut(next_rows, to - from, p - from + 1) - asked);
        finish(row, next - row, first_panel + p, right + p * depth * kTileColumns<C>);
      }
    }
  }

  void finish(int64_t row, int64_t rows, int64_t panel, const C* factors) const {
    const int64_t column = panel * kTileColumns<C>, count = columns(panel);
    if constexpr (std::is_same_v<T, C>) {
      const Clamp<C> clamp(product.p.activation);
      if (clamp.exact) {
        C* out = product.out + row * product.columns + column;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < count; c += kVector<C>) prefetch_to_write(out + r * product.columns + c);
        }
        const C* bias = product.bias == nullptr ? nullptr : product.bias + column;
        const int64_t lanes = count > kVector<C> ? count - kVector<C> : count;
        const ToRows<C> finished = {out, product.columns, bias, clamp, lanes};
        multiply_all_for<C, ToRows<C>>(rows, count)(left, left_step, factors, depth, finished);
        return;
      }
    }
    multiply_all_for<C, ToTile<C>>(rows, count)(left, left_step, factors, depth, ToTile<C>{tile});
    product.store(row, rows, column, count, tile);
  }
};

}  // namespace visionops::VISIONOPS_ISA
