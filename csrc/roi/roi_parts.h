// How the backward passes on the CPU divide their work: into parts of the maps' gradients.
//
// A part is written by one call alone, so that nothing is atomic and sums do not depend on threads.
#pragma once

#include <algorithm>

#include "common/lanes.h"
#include "roi/roi.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kCached = 640 << 10;  // bytes of a part: it stays in a core's cache while RoIs are added
constexpr int64_t kFewParts = 64;       // fewer leave threads idle
constexpr int64_t kChannels = 64;       // of a part where channels are last

inline int64_t parts_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

/// How a level's gradient is cut: into bands of rows of blocks of channels of images.
struct Cut {
  int64_t channels, rows;  // of a part
  int64_t blocks, bands;   // of an image

  Cut(const RoiProblem& problem, const RoiLevel& level) {
    const int64_t bytes = problem.dtype == DType::f64 ? 8 : 4;
    const int64_t row_bytes = level.width * bytes;
    if (problem.channels_last) {
      channels = kChannels < problem.channels ? kChannels : problem.channels;
    } else {
      const int64_t planes = kCached / (row_bytes * level.height + 1);
      channels = planes < 1 ? 1 : planes > 8 ? 8 : planes;
    }
    const int64_t images = problem.batch * parts_of(problem.channels, channels) + 1;
    const int64_t cached = kCached / (row_bytes * channels + 1);
    const int64_t enough = level.height * images / kFewParts;
    rows = cached < enough ? cached : enough;
    rows = rows < 8 ? 8 : rows;
    blocks = parts_of(problem.channels, channels);
    bands = parts_of(level.height, rows);
  }

  int64_t parts(const RoiProblem& problem) const { return problem.batch * blocks * bands; }
};

/// One part: rows [row, row_end) of channels [channel, channel_end) of an image.
struct Part {
  const RoiLevel& level;
  int64_t map, row, row_end, channel, channel_end;
};

/// The numbers [0, count) in an order where neighbours are far apart: RoIs crowd, and so does the work on them.
inline int64_t spread(int64_t i, int64_t count) {
  const auto divisor = [](int64_t a, int64_t b) {
    while (b != 0) {
      const int64_t rest = a % b;
      a = b;
      b = rest;
    }
    return a;
  };
  int64_t step = count * 5 / 8 + 1;
  while (divisor(step, count) != 1) ++step;
  return i * step % count;
}

inline Part part_of(const RoiProblem& problem, int64_t item) {
  for (int64_t l = 0;; ++l) {
    const RoiLevel& level = problem.levels[l];
    const Cut cut(problem, level);
    const int64_t parts = cut.parts(problem);
    if (item >= parts) {
      item -= parts;
      continue;
    }
    // Channels last: the blocks of a band follow each other, for they share its pages. Channels first: its planes do.
    const int64_t block = problem.channels_last ? item % cut.blocks : item / cut.bands % cut.blocks;
    const int64_t bands = problem.batch * cut.bands;
    const int64_t place = problem.channels_last ? spread(item / cut.blocks, bands) : item;
    const int64_t image = problem.channels_last ? place / cut.bands : item / (cut.blocks * cut.bands);
    const int64_t band = place % cut.bands;
    const int64_t row = band * cut.rows, channel = block * cut.channels;
    return {level,   l * problem.batch + image,
            row,     row + cut.rows < level.height ? row + cut.rows : level.height,
            channel, channel + cut.channels < problem.channels ? channel + cut.channels : problem.channels};
  }
}

/// Whether the sums of a part are made in the gradient itself. Where channels are last they are not: its pixels lie
/// apart there, as far as makes them share a few sets of the cache.
template <class T>
bool sums_in_place(const RoiProblem& problem) {
  return std::is_same_v<T, Compute<T>> && !problem.channels_last;
}

/// Bytes that the sums of the largest part take, if they are not made in the gradient itself.
template <class T>
int64_t sum_bytes(const RoiProblem& problem) {
  if (sums_in_place<T>(problem)) return 0;
  int64_t most = 0;
  for (int64_t l = 0; l < problem.level_count; ++l) {
    const Cut cut(problem, problem.levels[l]);
    const int64_t values = cut.rows * cut.channels * problem.levels[l].width;
    if (values > most) most = values;
  }
  return (most * int64_t{sizeof(Compute<T>)} + 63) / 64 * 64;
}

/// The sums of a part: made in the gradient itself, or in scratch of sum_bytes().
template <class T>
class PartSums {
  using C = Compute<T>;

 public:
  /// Zeros.
  PartSums(const RoiProblem& problem, const Part& part, T* grad_input, C* scratch) {
    const int64_t width = part.level.width, plane = part.level.height * width;
    const int64_t channels = part.channel_end - part.channel, pixels = (part.row_end - part.row) * width;
    const int64_t image = part.map % problem.batch * plane * problem.channels;
    // A part is rows of values that follow each other: its planes, or the channels of its pixels.
    rows_ = problem.channels_last ? pixels : channels;
    values_ = problem.channels_last ? channels : pixels;
    stride_ = problem.channels_last ? problem.channels : plane;
    to_ = grad_input + image +
          (problem.channels_last ? part.row * width * problem.channels + part.channel
                                 : part.channel * plane + part.row * width);
    sums_ = scratch;
    in_place_ = sums_in_place<T>(problem);
    if constexpr (std::is_same_v<T, C>) sums_ = in_place_ ? to_ : scratch;
    const int64_t stride = in_place_ ? stride_ : values_;
    pixel = problem.channels_last ? stride : 1;
    channel = problem.channels_last ? 1 : stride;
    origin_ = sums_ - part.channel * channel - part.row * width * pixel;
    for (int64_t r = 0; r < rows_; ++r) std::fill_n(sums_ + r * stride, values_, C{0});
  }

  /// Where the first pixel of a channel would lie if the part began there.
  C* at(int64_t of_channel) const { return origin_ + of_channel * channel; }

  /// Writes the gradient, if it is not written yet.
  void finish() const {
    if (in_place_) return;
    for (int64_t r = 0; r < rows_; ++r) put(static_cast<const C*>(sums_ + r * values_), to_ + r * stride_, values_);
  }

  int64_t pixel, channel;  // from one to the next, in elements

 private:
  int64_t rows_, values_, stride_;
  T* to_;
  C *sums_, *origin_;
  bool in_place_;
};

/// A row of bins of one RoI's result or gradient, of one channel or of vectors of channels, as (bins, stride) of C.
template <class T>
void read_bins(const RoiProblem& problem, const RoiResult& result, int64_t k, int64_t p, int64_t channel, int64_t count,
               int64_t stride, Compute<T>* to) {
  const T* bin =
      static_cast<const T*>(result.data) + k * result.strides[0] + channel * result.strides[1] + p * result.strides[2];
  for (int64_t q = 0; q < problem.pooled_width; ++q, to += stride, bin += result.strides[3]) {
    if (result.strides[1] == 1 && count > 1) {
      if constexpr (std::is_same_v<T, Compute<T>>) {
        memcpy(to, bin, static_cast<size_t>(count) * sizeof(T));
      } else {
        widen(bin, to, count);
      }
    } else {
      for (int64_t c = 0; c < count; ++c) to[c] = to_compute(bin[c * result.strides[1]]);
    }
  }
}

/// One RoI's bins of a result or its gradient, of one channel, one after the other: where they lie, or read to `copy`.
template <class T>
const Compute<T>* bins_of(const RoiProblem& problem, const RoiResult& result, int64_t k, int64_t channel,
                          Compute<T>* copy) {
  if constexpr (std::is_same_v<T, Compute<T>>) {
    if (result.strides[3] == 1 && result.strides[2] == problem.pooled_width) {
      return static_cast<const T*>(result.data) + k * result.strides[0] + channel * result.strides[1];
    }
  }
  for (int64_t p = 0; p < problem.pooled_height; ++p) {
    read_bins<T>(problem, result, k, p, channel, 1, 1, copy + p * problem.pooled_width);
  }
  return copy;
}

}  // namespace visionops::VISIONOPS_ISA
