// Depthwise convolution of whole planes, where channels come first: vectors of windows over strips of the image.
#pragma once

#include "conv/depthwise_strip.h"
#include "conv/depthwise_values.h"

namespace visionops::VISIONOPS_ISA {

// Rows of windows that share the lines they load.
constexpr int kRowsShared = 4;

/// kRows rows of windows of 3x3, `line` values from the beginning of one line to the next one's, to rows `width` apart.
template <int kRows, int kStep, class C>
static void nine_taps_of_rows(const C* corner, int64_t line, const int64_t* columns, const C* filter, int64_t groups,
                              C bias, Clamp<C> clamp, int64_t width, C* to) {
  constexpr int kLines = (kRows - 1) * kStep + 3;
  const int64_t taps[] = {columns[0], columns[1], columns[2]};
  Vector<C> factors[9];
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; ++tap) factors[tap] = Vector<C>{} + filter[tap * groups];
  for (int64_t at = 0; at < width; at += kVector<C>) {
    Vector<C> sums[kRows];
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) sums[row] = Vector<C>{} + bias;
#pragma GCC unroll 9
    for (int l = 0; l < kLines; ++l) {
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        const Vector<C> met = load(corner + l * line + taps[j] + at);
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) {
          const int i = l - row * kStep;
          if (i >= 0 && i < 3) sums[row] += met * factors[i * 3 + j];
        }
      }
    }
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) store<C>(clamp(sums[row]), to + row * width + at);
  }
}

/// kVectors vectors of windows of any kind.
template <int kVectors, class C>
static void taps_of_row(const Strip<C>& strip, const C* corner, const C* filter, int64_t groups, C bias, Clamp<C> clamp,
                        C* to) {
  Vector<C> sums[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) sums[v] = Vector<C>{} + bias;
  for (int64_t i = 0; i < strip.y.taps; ++i) {
    const C* row = corner + i * strip.y.tap_step * strip.line;
    for (int64_t j = 0; j < strip.x.taps; ++j, filter += groups) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[v] += load(row + strip.columns[j] + v * kVector<C>) * *filter;
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) store<C>(clamp(sums[v]), to + v * kVector<C>);
}

/// The results of `count` rows of windows of a strip, to its `beside`.
template <class C>
static void strip_values(const Strip<C>& strip, int64_t count, const C* filter, int64_t groups, C bias,
                         Clamp<C> clamp) {
  const bool nine = strip.y.taps == 3 && strip.x.taps == 3 && strip.y.tap_step == 1 && strip.y.step <= 2;
  for (int64_t row = 0; nine && row < count;) {
    // The last rows are computed together too, some of them again.
    const bool shared = count >= kRowsShared;
    if (shared && row > count - kRowsShared) row = count - kRowsShared;
    const auto kernel =
        shared ? (strip.y.step == 1 ? nine_taps_of_rows<kRowsShared, 1, C> : nine_taps_of_rows<kRowsShared, 2, C>)
               : nine_taps_of_rows<1, 1, C>;
    kernel(strip.corner(row), strip.line, strip.columns, filter, groups, bias, clamp, strip.width,
           strip.beside + row * strip.width);
    row += shared ? kRowsShared : 1;
  }
  for (int64_t row = 0; !nine && row < count; ++row) {
    const C* corner = strip.corner(row);
    C* to = strip.beside + row * strip.width;
    int64_t at = 0;
    for (; at + 4 * kVector<C> <= strip.width; at += 4 * kVector<C>) {
      taps_of_row<4>(strip, corner + at, filter, groups, bias, clamp, to + at);
    }
    for (; at < strip.width; at += kVector<C>) taps_of_row<1>(strip, corner + at, filter, groups, bias, clamp, to + at);
  }
}

/// Writes `count` rows of windows, `width` apart, from `row` on to a plane of the result.
template <class T, class C>
static void put_rows(const ConvolutionProblem& p, const C* values, int64_t width, int64_t row, int64_t count,
                     T* plane) {
  const T* end = plane + p.out_height * p.out_width;
  for (; count > 0; --count, ++row, values += width) {
    T* to = plane + (p.y.out_first + row * p.y.out_step) * p.out_width + p.x.out_first;
    if constexpr (std::is_same_v<T, C>) {
      // What a vector has beyond its row is overwritten by the next one.
      if (p.y.positions == p.out_height && p.x.positions == p.out_width && end - to >= width) {
        for (int64_t at = 0; at < width; at += kVector<C>) store<C>(load(values + at), to + at);
        continue;
      }
    }
    for (int64_t at = 0; at < p.x.positions; ++at) to[at * p.x.out_step] = from_compute<T>(values[at]);
  }
}

/// Planes too wide for the scratch: some positions at a time.
template <class T>
static void plane_by_columns(const ConvolutionProblem& p, const Compute<T>* filters, int64_t item, T* plane) {
  using C = Compute<T>;
  constexpr int64_t kMost = kColumnPanels * kTileColumns<C>;
  const int64_t positions = p.y.positions * p.x.positions, first = item / p.groups * positions;
  for (int64_t at = 0; at < positions; at += kMost) {
    const int64_t count = positions - at < kMost ? positions - at : kMost;
    C values[kMost];
    depthwise_columns<T>(p, first + at, count, item % p.groups, 1, filters, values, kTileColumns<C>);
    for (int64_t lane = 0; lane < count; ++lane) {
      const int64_t y = (at + lane) / p.x.positions, x = (at + lane) % p.x.positions;
      plane[(p.y.out_first + y * p.y.out_step) * p.out_width + p.x.out_first + x * p.x.out_step] =
          from_compute<T>(values[lane]);
    }
  }
}

/// The planes [begin, end) of the result. Taps are in the order of the pixels; filters are (taps, groups).
template <class T>
static void depthwise_planes(const ConvolutionProblem& p, const Compute<T>* filters, void* scratch, int64_t begin,
                             int64_t end) {
  using C = Compute<T>;
  const Strip<C> strip(p, scratch, product_scratch_bytes<C>());
  const int64_t size = p.y.size * p.x.size;
  const T* image = static_cast<const T*>(p.image);
  const Clamp<C> clamp(p.activation);
  if (strip.rows > 0) strip.find_columns();
  for (int64_t item = begin; item < end; ++item) {
    T* plane = static_cast<T*>(p.out) + item * p.out_height * p.out_width;
    if (strip.rows == 0) {
      plane_by_columns<T>(p, filters, item, plane);
      continue;
    }
    const int64_t channel = item % p.groups;
    const C bias = p.bias == nullptr ? C(0) : to_compute(static_cast<const T*>(p.bias)[channel]);
    for (int64_t row = 0; row < p.y.positions; row += strip.rows) {
      const int64_t count = p.y.positions - row < strip.rows ? p.y.positions - row : strip.rows;
      strip.fill(image + item * size, image + p.batch * p.groups * size, row, count);
      strip_values(strip, count, filters + channel, p.groups, bias, clamp);
      if (!clamp.exact) activate_values(p.activation, strip.beside, count * strip.width);
      put_rows(p, strip.beside, strip.width, row, count, plane);
    }
  }
}

}  // namespace visionops::VISIONOPS_ISA
