// A product over channels whose tiles take their whole sum at once, where channels come first in memory.
#pragma once

#include "conv/depthwise_values.h"
#include "conv/factors.h"
#include "conv/finished_tile.h"

namespace visionops::VISIONOPS_ISA {

/// The pointwise product of (batch, channels, height, width): tiles of filters and positions. Some panels of positions
/// lie in the second cache while the filters pass by, a row of tiles of them in the first one.
///
/// Columns says where the right factor comes from:
///   fill(column, columns, to, stride): its panels, `stride` apart, of kColumnPanels * kTileColumns columns at most
template <class T, class Columns>
struct FinishedPlanes {
  using C = Compute<T>;

  ChannelsFirst<T> product;
  Columns source;
  const T* bias;
  FinishedTile<C> scratch;  // with the bias, which is the factor of one more row of a panel, of ones
  int64_t tile_rows, panels;

  FinishedPlanes(const ConvolutionProblem& pointwise, const Columns& source, void* scratch)
      : product(pointwise, 0),
        source(source),
        bias(product.bias),
        scratch(product.depth + 1, scratch),
        tile_rows(parts(product.rows, kTileRows)),
        panels(parts(product.columns, kTileColumns<C>)) {
    product.bias = nullptr;
  }

  /// How many panels of that many channels there is scratch for; a product of more than one holds is another's.
  static int64_t panels_fitting(int64_t channels) {
    const int64_t fitting = FinishedTile<C>::panels_fitting(channels + 1);
    return fitting < kColumnPanels ? fitting : kColumnPanels;
  }

  int64_t items() const { return tile_rows * panels; }

  void run(int64_t begin, int64_t end) const {
    const int64_t first = begin / tile_rows, count = parts(end, tile_rows) - first;
    const int64_t blocks = parts(count, panels_fitting(product.depth));
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t panel = first + cut(count, blocks, b), next = first + cut(count, blocks, b + 1);
      const int64_t from = begin - panel * tile_rows, to = end - panel * tile_rows, all = (next - panel) * tile_rows;
      block(panel, next - panel, from > 0 ? from : 0, to < all ? to : all);
    }
  }

 private:
  int64_t columns(int64_t panel, int64_t count) const {
    const int64_t rest = product.columns - panel * kTileColumns<C>;
    return rest < count * kTileColumns<C> ? rest : count * kTileColumns<C>;
  }

  // The tiles [begin, end) of some panels, numbered panel by panel.
  void block(int64_t first, int64_t count, int64_t begin, int64_t end) const {
    const int64_t size = scratch.depth * kTileColumns<C>;
    source.fill(first * kTileColumns<C>, columns(first, count), scratch.right, size);
    for (int64_t p = 0; p < count; ++p) {
      C* ones = scratch.right + (p + 1) * size - kTileColumns<C>;
      for (int i = 0; i < kTileColumns<C>; ++i) ones[i] = C(1);
    }
    for (int64_t r = 0; r < tile_rows; ++r) {
      const int64_t from = begin > r ? parts(begin - r, tile_rows) : 0;
      const int64_t to = end > r ? parts(end - r, tile_rows) : 0;
      if (from >= to) continue;
      const int64_t row = cut(product.rows, tile_rows, r), rows = cut(product.rows, tile_rows, r + 1) - row;
      pack_left(row, rows);
      for (int64_t p = from; p < to; ++p) finish(row, rows, first + p, scratch.right + p * size);
    }
  }

  void pack_left(int64_t row, int64_t rows) const {
    product.pack_left(row, rows, 0, product.depth, scratch.left, scratch.left_step);
    for (int64_t r = 0; r < rows; ++r) {
      scratch.left[r * scratch.left_step + product.depth] = bias == nullptr ? C(0) : to_compute(bias[row + r]);
    }
  }

  void finish(int64_t row, int64_t rows, int64_t panel, const C* factors) const {
    const int64_t column = panel * kTileColumns<C>, count = columns(panel, 1);
    if constexpr (std::is_same_v<T, C>) {
      const Clamp<C> clamp(product.p.activation);
      const int64_t plane = product.p.out_height * product.p.out_width, pixel = column % plane;
      if (clamp.exact && pixel + count <= plane) {
        C* out = product.out + (column / plane * product.rows + row) * plane + pixel;
        return scratch.multiply(rows, count, factors, out, plane, nullptr, clamp);
      }
    }
    scratch.multiply(rows, count, factors);
    product.store(row, rows, column, count, scratch.tile);
  }
};

}  // namespace visionops::VISIONOPS_ISA
