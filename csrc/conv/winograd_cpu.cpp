// Winograd's convolution on the CPU: tiles of the image stand in lanes, and each of 16 points is a matrix product.
#include "conv/winograd.h"

#include "conv/product.h"
#include "conv/winograd_channels.h"
#include "conv/winograd_tiles.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// tile (kRows, kVectors vectors) = left (depth, kTileRows), its first kRows, times right (depth, kVectors vectors).
template <int kRows, int kVectors>
void multiply_terms(const float* left, const float* right, int64_t depth, float* tile) {
  constexpr int kLanes = kVector<float>;
  Vector<float> sums[kRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k, left += kTileRows, right += kVectors * kLanes) {
    Vector<float> factors[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) factors[v] = load(right + v * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[row][v] += left[row] * factors[v];
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store<float>(sums[row][v], tile + (row * kVectors + v) * kLanes);
  }
}

using MultiplyTerms = void(const float* left, const float* right, int64_t depth, float* tile);

template <int kVectors, int kRows = kTileRows>
MultiplyTerms* multiply_terms_for(int64_t rows) {
  if constexpr (kRows == 0) {
    return nullptr;
  } else {
    return rows < kRows ? multiply_terms_for<kVectors, kRows - 1>(rows) : multiply_terms<kRows, kVectors>;
  }
}

int64_t filter_tiles(int64_t out_channels) { return parts(out_channels, kTileRows); }

/// The problem with tiles of the image in kVectors vectors at a time.
template <int kVectors>
struct Blocks {
  static constexpr int kLanes = kVectors * kVector<float>;

  const WinogradProblem& p;
  int64_t tiles, count, rows;

  explicit Blocks(const WinogradProblem& p)
      : p(p), tiles(tiles_of(p)), count(parts(tiles, kLanes)), rows(filter_tiles(p.out_channels)) {}

  int64_t items() const { return count * rows; }

  void transform(const TileRun* runs, int found, float* points) const {
    if (p.channels_last && p.in_channels >= kVector<float>) return transform_channels<kLanes>(p, runs, found, points);
#if defined(__AVX512F__)
    if (!p.channels_last) return transform_planes<kLanes>(p, runs, found, points);
#endif
    transform_image<kLanes>(p, runs, found, points);
  }

  void run(float* scratch, int64_t begin, int64_t end) const {
    float* points = scratch;  // (16, in_channels, kLanes) of a block
    float* products = points + kPoints * p.in_channels * kLanes;
    TileRun runs[kLanes];
    TileResults<kLanes> results[parts(kTileRows, kVector<float>) * kVector<float>] = {};
    int found = 0;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t block = item / rows, row = item % rows;
      if (item == begin || row == 0) {
        const int64_t first = block * kLanes;
        found = runs_of_tiles(p, first, tiles - first < kLanes ? tiles - first : kLanes, runs);
        transform(runs, found, points);
      }
      const int64_t channel = cut(p.out_channels, rows, row);
      const int64_t channels = cut(p.out_channels, rows, row + 1) - channel;
      const float* filters = p.filters + row * kPoints * p.in_channels * kTileRows;
      MultiplyTerms* const multiply = multiply_terms_for<kVectors>(channels);
      for (int64_t point = 0; point < kPoints; ++point) {
        multiply(filters + point * p.in_channels * kTileRows, points + point * p.in_channels * kLanes, p.in_channels,
                 products + point * kTileRows * kLanes);
      }
      for (int64_t c = 0; c < channels; ++c) {
        transform_products<kLanes>(p, channel + c, products + c * kLanes, kTileRows * kLanes, results[c]);
        if (!p.channels_last) store_plane<kLanes>(p, runs, found, channel + c, results[c]);
      }
      if (p.channels_last) store_channels<kLanes>(p, runs, found, channel, channels, results);
    }
  }
};

/// Values of a point in the scratch, channels times lanes: for short vectors as many, since every block of tiles reads
/// all filters.
constexpr int64_t kPointValues = 16 * kMostWinogradChannels;

/// Calls f with the blocks of a problem: as many lanes as the points' share of the scratch permits and tiles fill.
template <class F>
void visit_blocks(const WinogradProblem& p, F&& f) {
  if (p.in_channels * 2 * kVector<float> <= kPointValues && tiles_of(p) > kVector<float>) {
    f(Blocks<2>(p));
  } else {
    f(Blocks<1>(p));
  }
}

}  // namespace

int64_t winograd_rows() { return kTileRows; }

void winograd_filters(const float* weight, int64_t out_channels, int64_t in_channels, float* filters, int64_t begin,
                      int64_t end) {
  const int64_t tiles = filter_tiles(out_channels);
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t first = cut(out_channels, tiles, tile), channels = cut(out_channels, tiles, tile + 1) - first;
    for (int64_t c = 0; c < in_channels; ++c) {
      float* to = filters + (tile * kPoints * in_channels + c) * kTileRows;
      for (int64_t row = 0; row < kTileRows; ++row) {
        double points[kPoints] = {};
        if (row < channels) transform_filter(weight + ((first + row) * in_channels + c) * 9, points);
        for (int64_t i = 0; i < kPoints; ++i) to[i * in_channels * kTileRows + row] = static_cast<float>(points[i]);
      }
    }
  }
}

int64_t winograd_scratch_bytes() { return sizeof(float) * kPoints * (kPointValues + 2 * kVector<float> * kTileRows); }

int64_t winograd_items(const WinogradProblem& problem) {
  int64_t items = 0;
  visit_blocks(problem, [&](const auto& blocks) { items = blocks.items(); });
  return items;
}

void winograd(const WinogradProblem& problem, void* scratch, int64_t begin, int64_t end) {
  visit_blocks(problem, [&](const auto& blocks) { blocks.run(static_cast<float*>(scratch), begin, end); });
}

}  // namespace visionops::VISIONOPS_ISA
