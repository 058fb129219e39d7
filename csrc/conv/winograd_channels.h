// Winograd's tiles where channels lie side by side: a vector holds a pixel's channels, and squares of them are turned.
#pragma once

#include "conv/winograd_tiles.h"

namespace visionops::VISIONOPS_ISA {

/// The channels [channel, channel + a vector) of the 4 x 4 pixels from (y, x) on, 0 outside the image.
static inline void load_tile(const WinogradProblem& p, const float* image, int64_t channel, int64_t y, int64_t x,
                             Vector<float> (&pixels)[kSide][kSide]) {
  const bool is_inside = y >= 0 && x >= 0 && y + kSide <= p.height && x + kSide <= p.width;
  for (int i = 0; i < kSide; ++i) {
    for (int j = 0; j < kSide; ++j) {
      const bool exists = is_inside || (y + i >= 0 && y + i < p.height && x + j >= 0 && x + j < p.width);
      pixels[i][j] = exists ? load(image + ((y + i) * p.width + x + j) * p.in_channels + channel) : Vector<float>{};
    }
  }
}

/// points (16, in_channels, kLanes) = B' tile B for each tile of the runs and each channel; of channels at least a
/// vector. The last vector of them reaches back over values that stand already.
template <int kLanes>
static void transform_channels(const WinogradProblem& p, const TileRun* runs, int count, float* points) {
  constexpr int kWidth = kVector<float>;
  const int last = runs[count - 1].lane + runs[count - 1].count - 1;
  for (int64_t block = 0; block < p.in_channels; block += kWidth) {
    const int64_t channel = block + kWidth <= p.in_channels ? block : p.in_channels - kWidth;
    Vector<float> squares[kPoints][kWidth] = {};
    for (int r = 0; r < count; ++r) {
      const TileRun& run = runs[r];
      const float* image = p.image + run.image * p.in_channels * p.height * p.width;
      for (int lane = run.lane; lane < run.lane + run.count; ++lane) {
        Vector<float> pixels[kSide][kSide], rows[kSide][kSide];
        load_tile(p, image, channel, 2 * run.y - p.top, 2 * (run.x + lane - run.lane) - p.left, pixels);
        for (int i = 0; i < kSide; ++i) multiply_row(pixels[i][0], pixels[i][1], pixels[i][2], pixels[i][3], rows[i]);
        transform_columns(rows, reinterpret_cast<float*>(&squares[0][lane % kWidth]), kWidth * kWidth);
        if (lane % kWidth < kWidth - 1 && lane < last) continue;
        for (int point = 0; point < kPoints; ++point) {
          turn<float>(squares[point]);
          float* to = points + (point * p.in_channels + channel) * kLanes + lane / kWidth * kWidth;
          for (int c = 0; c < kWidth; ++c) store<float>(squares[point][c], to + c * kLanes);
        }
      }
    }
  }
}

static inline void store_some(const Vector<float>& value, int64_t count, float* to) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
#else
  if (count == kVector<float>) return store<float>(value, to);
  for (int64_t i = 0; i < count; ++i) to[i] = value[i];
#endif
}

/// Writes the two rows of pixels of the runs' tiles into output channels from `channel` on.
template <int kLanes>
static void store_channels(const WinogradProblem& p, const TileRun* runs, int count, int64_t channel, int64_t channels,
                           const TileResults<kLanes>* results) {
  constexpr int kWidth = kVector<float>;
  for (int r = 0; r < count; ++r) {
    const TileRun& run = runs[r];
    const int64_t rest = p.out_width - 2 * run.x, pixels = 2 * run.count < rest ? 2 * run.count : rest;
    for (int i = 0; i < 2 && 2 * run.y + i < p.out_height; ++i) {
      const int64_t first = (run.image * p.out_height + 2 * run.y + i) * p.out_width + 2 * run.x;
      for (int64_t x = 0; x < pixels; x += kWidth) {
        for (int64_t c = 0; c < channels; c += kWidth) {
          Vector<float> square[kWidth];
          for (int k = 0; k < kWidth; ++k) square[k] = load(results[c + k].rows[i] + 2 * run.lane + x);
          turn<float>(square);
          float* to = p.out + (first + x) * p.out_channels + channel + c;
          const int64_t some = channels - c < kWidth ? channels - c : kWidth;
          for (int k = 0; k < kWidth && x + k < pixels; ++k) store_some(square[k], some, to + k * p.out_channels);
        }
      }
    }
  }
}

}  // namespace visionops::VISIONOPS_ISA
