// Winograd's three transforms: of a filter, of 4 x 4 tiles of the image, and of products back into 2 x 2 results.
#pragma once

#include <utility>

#include "conv/turn.h"
#include "conv/winograd.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace visionops::VISIONOPS_ISA {

constexpr int kSide = 4, kPoints = kSide * kSide;

static inline int64_t tiles_down(const WinogradProblem& p) { return (p.out_height + 1) / 2; }
static inline int64_t tiles_right(const WinogradProblem& p) { return (p.out_width + 1) / 2; }
static inline int64_t tiles_of(const WinogradProblem& p) { return p.batch * tiles_down(p) * tiles_right(p); }

/// Neighbouring tiles of one row of tiles of one image, in neighbouring lanes.
struct TileRun {
  int64_t image, y, x;
  int lane, count;
};

/// The runs of the tiles [first, first + count), numbered through all images; returns how many.
static inline int runs_of_tiles(const WinogradProblem& p, int64_t first, int64_t count, TileRun* runs) {
  const int64_t right = tiles_right(p), down = tiles_down(p);
  int found = 0;
  for (int64_t lane = 0; lane < count;) {
    const int64_t tile = first + lane, x = tile % right;
    const int64_t run = right - x < count - lane ? right - x : count - lane;
    runs[found++] = {tile / right / down, tile / right % down, x, static_cast<int>(lane), static_cast<int>(run)};
    lane += run;
  }
  return found;
}

/// points = G filter G', with G = (1 0 0, 1/2 1/2 1/2, 1/2 -1/2 1/2, 0 0 1).
static inline void transform_filter(const float* filter, double* points) {
  double rows[kSide][3];
  for (int x = 0; x < 3; ++x) {
    const double a = filter[x], b = filter[3 + x], c = filter[6 + x];
    rows[0][x] = a;
    rows[1][x] = (a + b + c) / 2;
    rows[2][x] = (a - b + c) / 2;
    rows[3][x] = c;
  }
  for (int y = 0; y < kSide; ++y) {
    const double a = rows[y][0], b = rows[y][1], c = rows[y][2];
    points[y * kSide] = a;
    points[y * kSide + 1] = (a + b + c) / 2;
    points[y * kSide + 2] = (a - b + c) / 2;
    points[y * kSide + 3] = c;
  }
}

/// The values at even or odd places of two vectors.
template <int kFirst, int... kLanes>
static inline Vector<float> every_other(Vector<float> a, Vector<float> b, std::integer_sequence<int, kLanes...>) {
  const Vector<Lane<float>> order = {(kFirst + 2 * kLanes)...};
  return __builtin_shuffle(a, b, order);
}

/// Copies `count` pixels of a channel's row from pixel x on, 0 outside the image.
static inline void copy_pixels(const float* row, int64_t step, int64_t x, int64_t size, int64_t count, float* to) {
  int64_t begin = x < 0 ? -x : 0, end = size - x < count ? size - x : count;
  if (begin > count) begin = count;
  if (end < begin) end = begin;
  for (int64_t i = 0; i < begin; ++i) to[i] = 0;
  if (step == 1) {
    for (int64_t i = begin; i < end; ++i) to[i] = row[x + i];
  } else {
    for (int64_t i = begin; i < end; ++i) to[i] = row[(x + i) * step];
  }
  for (int64_t i = end; i < count; ++i) to[i] = 0;
}

/// One row of a tile, its four columns, times B, with B' = (1 0 -1 0, 0 1 1 0, 0 -1 1 0, 0 1 0 -1).
static inline void multiply_row(Vector<float> first, Vector<float> second, Vector<float> third, Vector<float> fourth,
                                Vector<float> (&to)[kSide]) {
  to[0] = first - third;
  to[1] = second + third;
  to[2] = third - second;
  to[3] = second - fourth;
}

/// The same for a vector of neighbouring tiles. The pixels of the row are a and b; c and d are those two further on.
static inline void transform_row(Vector<float> a, Vector<float> b, Vector<float> c, Vector<float> d,
                                 Vector<float> (&to)[kSide]) {
  using Order = std::make_integer_sequence<int, kVector<float>>;
  multiply_row(every_other<0>(a, b, Order{}), every_other<1>(a, b, Order{}), every_other<0>(c, d, Order{}),
               every_other<1>(c, d, Order{}), to);
}

/// The same down the columns: of rows[i][j], row i of the tiles at column j, to point (i, j), `stride` values apart.
static inline void transform_columns(const Vector<float> (&rows)[kSide][kSide], float* to, int64_t stride) {
#pragma GCC unroll 4
  for (int j = 0; j < kSide; ++j) {
    store<float>(rows[0][j] - rows[2][j], to + j * stride);
    store<float>(rows[1][j] + rows[2][j], to + (kSide + j) * stride);
    store<float>(rows[2][j] - rows[1][j], to + (2 * kSide + j) * stride);
    store<float>(rows[1][j] - rows[3][j], to + (3 * kSide + j) * stride);
  }
}

/// points (16, in_channels, kLanes) = B' tile B for each tile of the runs and each channel.
template <int kLanes>
static void transform_image(const WinogradProblem& p, const TileRun* runs, int count, float* points) {
  constexpr int kStride = kLanes + kVector<float>;
  float lines[kSide][kSide][kStride] = {};
  float pixels[2 * kStride + 2] = {};
  const int64_t step = p.channels_last ? p.in_channels : 1, plane = p.channels_last ? 1 : p.height * p.width;
  for (int64_t channel = 0; channel < p.in_channels; ++channel) {
    for (int r = 0; r < count; ++r) {
      const TileRun& run = runs[r];
      const float* image = p.image + run.image * p.in_channels * p.height * p.width + channel * plane;
      for (int i = 0; i < kSide; ++i) {
        const int64_t y = 2 * run.y - p.top + i, x = 2 * run.x - p.left;
        const int64_t width = y < 0 || y >= p.height ? 0 : p.width;
        copy_pixels(width == 0 ? nullptr : image + y * p.width * step, step, x, width, 2 * run.count + 2, pixels);
        // Whole vectors, also beyond the run: what follows overwrites them.
        for (int lane = 0; lane < run.count; lane += kVector<float>) {
          const float* from = pixels + 2 * lane;
          Vector<float> row[kSide];
          transform_row(load(from), load(from + kVector<float>), load(from + 2), load(from + kVector<float> + 2), row);
          for (int j = 0; j < kSide; ++j) store<float>(row[j], &lines[i][j][run.lane + lane]);
        }
      }
    }
    for (int lane = 0; lane < kLanes; lane += kVector<float>) {
      Vector<float> rows[kSide][kSide];
      for (int i = 0; i < kSide; ++i) {
        for (int j = 0; j < kSide; ++j) rows[i][j] = load(&lines[i][j][lane]);
      }
      transform_columns(rows, points + channel * kLanes + lane, p.in_channels * kLanes);
    }
  }
}

#if defined(__AVX512F__)

/// What a run has in one vector of 16 lanes: where their pixels are in a channel, and which of 32 neighbours exist.
struct RunPart {
  int64_t y, offset;      // of the tiles' first row; the first lane's first pixel, if the run began there
  uint32_t first, later;  // pixels from the first lane's first on, and those two further on, if their lane is the run's
};

static inline uint32_t bits(int64_t begin, int64_t end) {
  begin = begin < 0 ? 0 : begin;
  end = end > 32 ? 32 : end;
  return begin < end ? static_cast<uint32_t>((uint64_t{1} << end) - (uint64_t{1} << begin)) : 0;
}

/// Where channels are planes: rows of pixels are loaded under masks, and the points of a vector stay in registers.
template <int kLanes>
static void transform_planes(const WinogradProblem& p, const TileRun* runs, int count, float* points) {
  RunPart found[kLanes];
  for (int lane = 0; lane < kLanes; lane += 16) {
    int used = 0;
    for (int r = 0; r < count; ++r) {
      const TileRun& run = runs[r];
      const uint32_t lanes = bits(2 * (run.lane - lane), 2 * (run.lane + run.count - lane));
      if (lanes == 0) continue;
      const int64_t y = 2 * run.y - p.top, x = 2 * (run.x + lane - run.lane) - p.left;
      found[used++] = {y, (run.image * p.in_channels * p.height + y) * p.width + x, lanes & bits(-x, p.width - x),
                       lanes & bits(-x - 2, p.width - x - 2)};
    }
    for (int64_t channel = 0; channel < p.in_channels; ++channel) {
      Vector<float> rows[kSide][kSide];
#pragma GCC unroll 4
      for (int i = 0; i < kSide; ++i) {
        __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
        for (int r = 0; r < used; ++r) {
          const RunPart& part = found[r];
          if (part.y + i < 0 || part.y + i >= p.height) continue;
          const float* from = p.image + channel * p.height * p.width + part.offset + i * p.width;
          a = _mm512_mask_loadu_ps(a, static_cast<__mmask16>(part.first), from);
          b = _mm512_mask_loadu_ps(b, static_cast<__mmask16>(part.first >> 16), from + 16);
          c = _mm512_mask_loadu_ps(c, static_cast<__mmask16>(part.later), from + 2);
          d = _mm512_mask_loadu_ps(d, static_cast<__mmask16>(part.later >> 16), from + 18);
        }
        transform_row(a, b, c, d, rows[i]);
      }
      transform_columns(rows, points + channel * kLanes + lane, p.in_channels * kLanes);
    }
  }
}

#endif

/// Two rows of pixels of a block of tiles, of one output channel; vectors are read beyond them.
template <int kLanes>
struct TileResults {
  alignas(64) float rows[2][2 * kLanes + kVector<float>];
};

/// Writes the two rows of pixels of the runs' tiles into one output channel, a plane.
template <int kLanes>
static inline void store_plane(const WinogradProblem& p, const TileRun* runs, int count, int64_t channel,
                               const TileResults<kLanes>& results) {
  const int64_t plane = p.out_height * p.out_width;
  for (int r = 0; r < count; ++r) {
    const TileRun& run = runs[r];
    const int64_t rest = p.out_width - 2 * run.x, pixels = 2 * run.count < rest ? 2 * run.count : rest;
    float* image = p.out + (run.image * p.out_channels + channel) * plane;
    for (int i = 0; i < 2 && 2 * run.y + i < p.out_height; ++i) {
      float* to = image + (2 * run.y + i) * p.out_width + 2 * run.x;
#if defined(__AVX512F__)
      for (int first = 2 * run.lane & ~15; first < 2 * run.lane + pixels; first += 16) {
        const int64_t at = first - 2 * run.lane;
        _mm512_mask_storeu_ps(to + at, static_cast<__mmask16>(bits(-at, pixels - at)),
                              _mm512_load_ps(results.rows[i] + first));
      }
#else
      for (int64_t x = 0; x < pixels; ++x) to[x] = results.rows[i][2 * run.lane + x];
#endif
    }
  }
}

/// results = activation(A' products A + bias) of one output channel, with A' = (1 1 1 0, 0 1 -1 -1). Of the 16
/// products, kLanes each, the next begins `stride` further on.
template <int kLanes>
static void transform_products(const WinogradProblem& p, int64_t channel, const float* products, int64_t stride,
                               TileResults<kLanes>& results) {
  using Order = std::make_integer_sequence<int, kVector<float>>;
  const float bias = p.bias == nullptr ? 0 : p.bias[channel];
#pragma GCC unroll 2
  for (int lane = 0; lane < kLanes; lane += kVector<float>) {
    Vector<float> rows[2][kSide];
#pragma GCC unroll 4
    for (int j = 0; j < kSide; ++j) {
      const float* from = products + j * stride + lane;
      const Vector<float> a = load(from), b = load(from + kSide * stride);
      const Vector<float> c = load(from + 2 * kSide * stride), d = load(from + 3 * kSide * stride);
      rows[0][j] = a + b + c;
      rows[1][j] = b - c - d;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Vector<float> even = rows[i][0] + rows[i][1] + rows[i][2] + bias;
      const Vector<float> odd = rows[i][1] - rows[i][2] - rows[i][3] + bias;
      float* to = results.rows[i] + 2 * lane;
      store<float>(interleave<float, 0>(even, odd, Order{}), to);
      store<float>(interleave<float, kVector<float> / 2>(even, odd, Order{}), to + kVector<float>);
    }
  }
  visit_activation(p.activation, [&](auto tag) {
    constexpr Activation activation = decltype(tag)::activation;
    if constexpr (activation == Activation::none) return;
    for (auto& row : results.rows) {
      for (int i = 0; i < 2 * kLanes; ++i) row[i] = activated<activation>(row[i]);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
