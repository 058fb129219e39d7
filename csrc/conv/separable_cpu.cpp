// A depthwise convolution feeding a pointwise one on the CPU: its values go straight into the product, in cache.
#include "conv/depthwise.h"
#include "conv/factors.h"
#include "conv/separable_tile.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kLine = 64;  // bytes

// Lines asked for before they are needed, written in assembly on x86: calls of a function whose only effect is the
// compiler's own prefetch are dropped, and the one for writing needs a flag that no instruction set here has.

/// Asks the second cache for a line.
static inline void prefetch(const void* at) {
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

/// (batch, height, width, channels): tiles of positions and filters whose whole sum is taken at once. The depthwise
/// values of a row of tiles lie in the first two caches, the filters of as many tiles as fit in the second.
template <class T>
struct LastTiles {
  using C = Compute<T>;

  ChannelsLast<T> product;
  const ConvolutionProblem& d;
  const C* filters;
  int64_t depth, tile_rows, panels, blocks, left_step;
  C* tile;
  C* left;
  C* right;

  LastTiles(const SeparableProblem& problem, void* scratch)
      : product(problem.pointwise, 0),
        d(problem.depthwise),
        filters(static_cast<const C*>(problem.filters)),
        depth(d.groups),
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

  int64_t columns(int64_t panel) const {
    const int64_t rest = product.columns - panel * kTileColumns<C>;
    return rest < kTileColumns<C> ? rest : kTileColumns<C>;
  }

  // The tiles [begin, end) of a block, row by row; the first and the last row may be parts.
  void block(int64_t first_panel, int64_t count, int64_t begin, int64_t end) const {
    const int64_t first_row = begin / count, last_row = parts(end, count);
    // Of a single row of tiles, only the panels that it meets.
    const bool single = first_row + 1 == last_row;
    const int64_t first = single ? begin % count : 0, last = single ? end - first_row * count : count;
    for (int64_t p = first; p < last; ++p) {
      const int64_t column = (first_panel + p) * kTileColumns<C>;
      product.pack_right(column, columns(first_panel + p), 0, depth, right + p * depth * kTileColumns<C>);
    }
    WindowAt<T> windows[2][kTileRows];
    int64_t rows = windows_of(first_row, windows[first_row % 2]);
    for (int64_t r = first_row; r < last_row; ++r) {
      depthwise_values(d, windows[r % 2], rows, 0, depth, filters, left, left_step);
      const WindowAt<T>* next = windows[(r + 1) % 2];
      const int64_t next_rows = r + 1 < last_row ? windows_of(r + 1, windows[(r + 1) % 2]) : 0;
      const int64_t from = r * count < begin ? begin - r * count : 0;
      const int64_t to = (r + 1) * count > end ? end - r * count : count;
      for (int64_t p = from; p < to; ++p) {
        // While these are multiplied, what the next row of tiles reads for the first time.
        for (int64_t i = cut(next_rows, to - from, p - from); i < cut(next_rows, to - from, p - from + 1); ++i) {
          prefetch_corner(next[i]);
        }
        finish_tile(cut(product.rows, tile_rows, r), rows, first_panel + p, right + p * depth * kTileColumns<C>);
      }
      rows = next_rows;
    }
  }

  // Where the windows of a row of tiles lie; returns how many they are.
  int64_t windows_of(int64_t r, WindowAt<T>* windows) const {
    const int64_t row = cut(product.rows, tile_rows, r), rows = cut(product.rows, tile_rows, r + 1) - row;
    Position at(d.y, d.x, row);
    for (int64_t i = 0; i < rows; ++i, at.advance(d.y, d.x)) windows[i] = WindowAt<T>(d, at);
    return rows;
  }

  // The pixels of a window's lower right corner, which no window before it has met.
  void prefetch_corner(const WindowAt<T>& window) const {
    const int64_t first_i = d.y.taps > d.y.step ? d.y.taps - d.y.step : 0;
    const int64_t first_j = d.x.taps > d.x.step ? d.x.taps - d.x.step : 0;
    for (int64_t i = first_i; i < d.y.taps; ++i) {
      const int64_t y = window.y + i * d.y.tap_step;
      if (y < 0 || y >= d.y.size) continue;
      for (int64_t j = first_j; j < d.x.taps; ++j) {
        const int64_t x = window.x + j * d.x.tap_step;
        if (x < 0 || x >= d.x.size) continue;
        const T* pixel = window.corner + (i * d.y.tap_step * d.x.size + j * d.x.tap_step) * depth;
        for (int64_t c = 0; c < depth; c += kLine / sizeof(T)) prefetch(pixel + c);
      }
    }
  }

  void finish_tile(int64_t row, int64_t rows, int64_t panel, const C* factors) const {
    const int64_t column = panel * kTileColumns<C>, count = columns(panel);
    if constexpr (std::is_same_v<T, C>) {
      const Clamp<C> clamp(product.p.activation);
      if (clamp.exact && count % kVector<C> == 0) {
        C* out = product.out + row * product.columns + column;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < count; c += kVector<C>) prefetch_to_write(out + r * product.columns + c);
        }
        const C* bias = product.bias == nullptr ? nullptr : product.bias + column;
        const ToRows<C> finish = {out, product.columns, bias, clamp};
        multiply_all_for<C, ToRows<C>>(rows, count)(left, left_step, factors, depth, finish);
        return;
      }
    }
    multiply_all_for<C, ToTile<C>>(rows, count)(left, left_step, factors, depth, ToTile<C>{tile});
    product.store(row, rows, column, count, tile);
  }
};

/// The same for sums too long for the scratch, as a product that takes them in parts.
template <class T>
struct SeparableLast : ChannelsLast<T> {
  using C = Compute<T>;

  const ConvolutionProblem& d;
  const C* filters;

  SeparableLast(const SeparableProblem& problem)
      : ChannelsLast<T>(problem.pointwise, 0), d(problem.depthwise), filters(static_cast<const C*>(problem.filters)) {}

  void pack_left(int64_t row, int64_t count, int64_t k, int64_t terms, C* to) const {
    WindowAt<T> windows[kTileRows];
    Position at(d.y, d.x, row);
    for (int64_t r = 0; r < count; ++r, at.advance(d.y, d.x)) windows[r] = WindowAt<T>(d, at);
    depthwise_values(d, windows, count, k, terms, filters, to, kRowStride<C>);
  }
};

/// (batch, channels, height, width): panels of the right factor are computed.
template <class T>
struct SeparableFirst : ChannelsFirst<T> {
  using C = Compute<T>;

  const ConvolutionProblem& d;
  const C* filters;

  SeparableFirst(const SeparableProblem& problem)
      : ChannelsFirst<T>(problem.pointwise, 0), d(problem.depthwise), filters(static_cast<const C*>(problem.filters)) {}

  void pack_right(int64_t column, int64_t count, int64_t k, int64_t terms, C* to) const {
    const int64_t plane = d.y.size * d.x.size;
    const T* bias = d.bias == nullptr ? nullptr : static_cast<const T*>(d.bias) + k;
    depthwise_rows(d, static_cast<const T*>(d.image) + k * plane, column, count, terms, filters + k, bias, to);
  }
};

/// Calls f with the product of the problem.
template <class F>
void visit_separable(const SeparableProblem& problem, void* scratch, F&& f) {
  visit_floating(problem.depthwise.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    if (!problem.depthwise.channels_last) {
      const SeparableFirst<T> factors(problem);
      f(Product<C, SeparableFirst<T>>(factors, scratch));
    } else if (LastTiles<T>::panels_fitting(problem.depthwise.groups) > 0) {
      f(LastTiles<T>(problem, scratch));
    } else {
      const SeparableLast<T> factors(problem);
      f(Product<C, SeparableLast<T>>(factors, scratch));
    }
  });
}

}  // namespace

int64_t separable_items(const SeparableProblem& problem) {
  int64_t items = 0;
  visit_separable(problem, nullptr, [&](const auto& product) { items = product.items(); });
  return items;
}

void separable(const SeparableProblem& problem, void* scratch, int64_t begin, int64_t end) {
  visit_separable(problem, scratch, [&](const auto& product) { product.run(begin, end); });
}

}  // namespace visionops::VISIONOPS_ISA
