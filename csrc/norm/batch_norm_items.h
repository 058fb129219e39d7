// How batch norm walks over an image: items of work, contiguous runs of elements, and a channel's coefficients.
#pragma once

#include "norm/fused_batch_norm.h"
#include "norm/slope_bits.h"
#include "norm/stream.h"

namespace visionops::VISIONOPS_ISA {

// Elements that are loaded, computed and stored at a time: several such arrays fit into the first cache.
constexpr int64_t kChunk = 1024;

constexpr int64_t kColumns = kBatchNormColumns;

// Of an item: elements of its channel or, with channels last, of all channels in so many rows.
constexpr int64_t kElementsOfChannel = 8192;
constexpr int64_t kElementsOfRows = 32768, kLeastRows = 32, kMostRows = 128;

constexpr int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/// Contiguous elements. With channels last each has its column of coefficients, otherwise all have one.
struct Run {
  int64_t first, count;
  int64_t column;
  int64_t bits;  // byte of the first one's bit
};

/// An image as rows of columns: with channels last some pixels, so that few channels still fill vectors, otherwise one
/// channel of one image.
struct Walk {
  const BatchNormProblem& problem;
  int64_t repeats;       // pixels of a row, channels last
  int64_t columns;       // of a row, channels last
  int64_t coefficients;  // of one kind, up to a multiple of the longest vector
  int64_t rows;
  int64_t rows_per_item;  // channels last
  int64_t row_bits;       // bytes
  int64_t images;         // of an item, otherwise
  int64_t slice;          // pixels of an item, otherwise
  int64_t slices, items_per_channel, items;

  explicit Walk(const BatchNormProblem& problem) : problem(problem) {
    const int64_t batch = problem.batch, channels = problem.channels, pixels = problem.pixels;
    if (problem.channels_last) {
      const BatchNormRows cut = batch_norm_rows(batch * pixels, channels);
      repeats = cut.pixels;
      columns = cut.columns;
      rows = cut.count;
      row_bits = bit_bytes(columns);
      images = slice = slices = items_per_channel = 0;
      rows_per_item = larger(smaller(kElementsOfRows / columns, kMostRows), kLeastRows);
      items = blocks(rows, rows_per_item);
    } else {
      repeats = 1;
      columns = channels;
      rows = batch * channels;
      rows_per_item = 0;
      row_bits = bit_bytes(pixels);
      images = larger(kElementsOfChannel / pixels, 1);
      // Slices begin at whole bytes of bits and whole vectors.
      slice = blocks(blocks(pixels, blocks(pixels, kElementsOfChannel)), 64) * 64;
      slices = blocks(pixels, slice);
      items_per_channel = blocks(batch, images) * slices;
      items = channels * items_per_channel;
    }
    coefficients = blocks(columns, 16) * 16;
  }

  /// Elements of a channel in the p-th item that has some of it.
  int64_t count_of(int64_t p) const {
    if (problem.channels_last) {
      const int64_t pixels = rows_per_item * repeats;
      return smaller(pixels, problem.batch * problem.pixels - p * pixels);
    }
    const int64_t image = p / slices * images, pixel = p % slices * slice;
    return smaller(images, problem.batch - image) * smaller(slice, problem.pixels - pixel);
  }

  int64_t pieces() const { return problem.channels_last ? items : items_per_channel; }

  /// Place of the moments of a channel in its p-th item.
  int64_t moments_of(int64_t channel, int64_t p) const {
    return problem.channels_last ? p * problem.channels + channel : channel * items_per_channel + p;
  }

  /// Rows [first_row(item), first_row(item + 1)) are those of an item, channels last.
  int64_t first_row(int64_t item) const { return smaller(item * rows_per_item, rows); }

  /// Only the image's last row may be short.
  Run row_run(int64_t row) const {
    const int64_t rest = problem.batch * problem.pixels * problem.channels - row * columns;
    return {row * columns, smaller(columns, rest), 0, row * row_bits};
  }

  /// Whether `count` rows from `row` on lie before `end` and none of them is short.
  bool full_rows(int64_t row, int64_t count, int64_t end) const {
    return row + count <= end && row_run(row + count - 1).count == columns;
  }

  /// Calls f(run) for each run of an item, in order.
  template <class F>
  void runs(int64_t item, F&& f) const {
    if (problem.channels_last) {
      for (int64_t row = first_row(item); row < first_row(item + 1); ++row) f(row_run(row));
    } else {
      const int64_t channel = item / items_per_channel, p = item % items_per_channel;
      const int64_t image = p / slices * images, pixel = p % slices * slice;
      const int64_t end = smaller(image + images, problem.batch), count = smaller(slice, problem.pixels - pixel);
      for (int64_t b = image; b < end; ++b) {
        const int64_t row = b * problem.channels + channel;
        f(Run{row * problem.pixels + pixel, count, channel, row * row_bits + pixel / 8});
      }
    }
  }

  /// Calls f(run) for each run of an item, cut into chunks.
  template <class F>
  void chunks(int64_t item, F&& f) const {
    runs(item, [&](const Run& run) {
      for (int64_t i = 0; i < run.count; i += kChunk) {
        const int64_t column = problem.channels_last ? run.column + i : run.column;
        f(Run{run.first + i, smaller(kChunk, run.count - i), column, run.bits + i / 8});
      }
    });
  }

  /// Calls f(run) for the chunks of items [begin, end), the last item first: it was the last to be summed over, and may
  /// be in a cache still.
  template <class F>
  void chunks_backwards(int64_t begin, int64_t end, F&& f) const {
    for (int64_t item = end - 1; item >= begin; --item) chunks(item, f);
  }
};

/// n elements as they are computed with: themselves, or widened into a buffer.
template <class T>
inline const Compute<T>* loaded(const T* from, int64_t n, Compute<T>* buffer) {
  if constexpr (std::is_same_v<T, Compute<T>>) {
    return from;
  } else {
    widen(from, buffer, n);
    return buffer;
  }
}

/// Results of an image's size. Large ones are streamed past the caches, which hold what is read a second time.
template <class T>
struct Results {
  using C = Compute<T>;
  static constexpr int64_t kStreamedFrom = 4 << 20;  // bytes

  bool streamed;

  explicit Results(const BatchNormProblem& problem)
      : streamed(problem.batch * problem.channels * problem.pixels * static_cast<int64_t>(sizeof(T)) >= kStreamedFrom) {
  }

  ~Results() {
    if (streamed) finish_streams();
  }

  /// Where to compute what is then stored at `to`: there itself, or the buffer.
  C* place(T* to, C* buffer) const {
    if constexpr (std::is_same_v<T, C>) {
      return streamed ? buffer : to;
    } else {
      return buffer;
    }
  }

  /// Stores n values at `to`, unless they were computed there.
  void store(const C* values, int64_t n, T* to) const {
    if constexpr (std::is_same_v<T, C>) {
      if (streamed) stream(values, to, n * static_cast<int64_t>(sizeof(T)));
    } else if (streamed) {
      alignas(64) T narrowed[kChunk];
      narrow(values, narrowed, n);
      stream(narrowed, to, n * static_cast<int64_t>(sizeof(T)));
    } else {
      narrow(values, to, n);
    }
  }
};

/// Coefficients in one array after the other: of a channel, or repeated over the columns of a row.
template <class C>
struct Coefficients {
  const C* centre;    // the mean, rounded
  const C* scale;     // weight / sqrt(var + eps)
  const C* shift;     // bias, less the scaled remainder of the mean
  const C* response;  // in training, of the gradient to the centred input
  const C* constant;  // likewise

  Coefficients(const void* memory, int64_t stride)
      : centre(static_cast<const C*>(memory)),
        scale(centre + stride),
        shift(scale + stride),
        response(shift + stride),
        constant(response + stride) {}

  Coefficients from(int64_t column) const {
    Coefficients moved = *this;
    moved.centre += column;
    moved.scale += column;
    moved.shift += column;
    moved.response += column;
    moved.constant += column;
    return moved;
  }
};

/// Writes one coefficient of a channel to every column that has it.
template <class C>
inline void spread(double value, C* array, const Walk& walk, int64_t channel) {
  for (int64_t r = 0; r < walk.repeats; ++r) array[r * walk.problem.channels + channel] = static_cast<C>(value);
}

/// z = activation((x - centre) * scale + shift + residual), the residual unless null; kStep 1 with a column of
/// coefficients for each element, 0 with one for all.
template <Activation a, int kStep, class C>
inline void normalised(const C* __restrict x, const C* __restrict residual, const Coefficients<C>& by, int64_t n,
                       C* __restrict z) {
  const C* __restrict centre = by.centre, * __restrict scale = by.scale, * __restrict shift = by.shift;
  if (residual != nullptr) {
    for (int64_t i = 0; i < n; ++i) {
      z[i] = activated<a>((x[i] - centre[kStep * i]) * scale[kStep * i] + shift[kStep * i] + residual[i]);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      z[i] = activated<a>((x[i] - centre[kStep * i]) * scale[kStep * i] + shift[kStep * i]);
    }
  }
}

/// Sums of u and of u v over elements of one channel, each in as many lanes as a vector of 64 bytes has.
template <class C>
struct LaneSums {
  static constexpr int64_t kLanes = 64 / sizeof(C);
  C first[kLanes] = {}, second[kLanes] = {};

  /// Adds n elements, u and v less their origins.
  void add(const C* __restrict u, C origin_u, const C* __restrict v, C origin_v, int64_t n) {
    C sums[kLanes], products[kLanes];  // in registers; unrolled loops over them GCC 12 would vectorise across, badly
#pragma GCC unroll 1
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] = first[lane], products[lane] = second[lane];
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
#pragma GCC unroll 1
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const C value = u[i + lane] - origin_u;
        sums[lane] += value;
        products[lane] += value * (v[i + lane] - origin_v);
      }
    }
    for (int64_t lane = 0; i < n; ++i, ++lane) {
      const C value = u[i] - origin_u;
      sums[lane] += value;
      products[lane] += value * (v[i] - origin_v);
    }
#pragma GCC unroll 1
    for (int64_t lane = 0; lane < kLanes; ++lane) first[lane] = sums[lane], second[lane] = products[lane];
  }

  double sum() const { return total(first); }
  double products() const { return total(second); }

 private:
  static double total(const C* lanes) {
    double sum = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) sum += static_cast<double>(lanes[lane]);
    return sum;
  }
};

/// The same over rows, in a lane for each column.
template <class C>
struct ColumnSums {
  static constexpr int kRows = 4;  // added at a time, so that sums are loaded and stored more rarely than elements

  alignas(64) C first[kColumns] = {};
  alignas(64) C second[kColumns] = {};

  /// Adds a row of n columns, u and v less their origins.
  void add(const C* __restrict u, const C* __restrict origin_u, const C* __restrict v, const C* __restrict origin_v,
           int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      const C value = u[i] - origin_u[i];
      first[i] += value;
      second[i] += value * (v[i] - origin_v[i]);
    }
  }

  void add_rows(const C* const (&u)[kRows], const C* __restrict origin_u, const C* const (&v)[kRows],
                const C* __restrict origin_v, int64_t n) {
    const C* __restrict u0 = u[0], * __restrict u1 = u[1], * __restrict u2 = u[2], * __restrict u3 = u[3];
    const C* __restrict v0 = v[0], * __restrict v1 = v[1], * __restrict v2 = v[2], * __restrict v3 = v[3];
    for (int64_t i = 0; i < n; ++i) {
      const C a = u0[i] - origin_u[i], b = u1[i] - origin_u[i], c = u2[i] - origin_u[i], d = u3[i] - origin_u[i];
      first[i] += (a + b) + (c + d);
      second[i] += (a * (v0[i] - origin_v[i]) + b * (v1[i] - origin_v[i])) +
                   (c * (v2[i] - origin_v[i]) + d * (v3[i] - origin_v[i]));
    }
  }
};

/// Adds up what columns of `repeats` equal rows of channels hold, in double.
template <class C>
inline void folded(const C* columns, int64_t repeats, int64_t channels, double* __restrict sums) {
  for (int64_t c = 0; c < channels; ++c) sums[c] = static_cast<double>(columns[c]);
  for (int64_t r = 1; r < repeats; ++r) {
    for (int64_t c = 0; c < channels; ++c) sums[c] += static_cast<double>(columns[r * channels + c]);
  }
}

}  // namespace visionops::VISIONOPS_ISA
