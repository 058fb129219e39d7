// A strip of a plane laid out for a depthwise window, so that the values which neighbouring windows meet are
// neighbours.
#pragma once

#include "conv/convolution.h"
#include "conv/product.h"
#include "conv/turn.h"
#include "conv/window.h"

namespace visionops::VISIONOPS_ISA {

template <class C>
static inline int64_t in_vectors(int64_t count) {
  return parts(count, kVector<C>) * kVector<C>;
}

/// Writes `count` values, `step` apart in memory, and zeros after them up to `size`, and up to a vector more; reads
/// nothing from `end` on.
template <class T, class C>
static void copy_line(const T* from, int64_t step, int64_t count, const T* end, C* to, int64_t size) {
  int64_t done = 0;
  if constexpr (std::is_same_v<T, C>) {
    constexpr std::make_integer_sequence<int, kVector<C>> kLanes;
    if (count > 0 && step <= 2 && end - from >= in_vectors<C>(count) * step) {
      for (; done < count; done += kVector<C>) {
        const T* at = from + done * step;
        store<C>(step == 1 ? load(at) : across<0, 2, C>(load(at), load(at + kVector<C>), kLanes), to + done);
      }
    }
  }
  for (; done < count; ++done) to[done] = to_compute(from[done * step]);
  for (done = count; done < size; done += kVector<C>) store<C>(Vector<C>{}, to + done);
}

/// Lines of a plane, widened to C and with zeros around the image. A line lies in as many parts as the stride has
/// pixels: column c at place c / stride of part c % stride.
template <class C>
struct Strip {
  const Axis &y, &x;
  int64_t width;       // of a row of windows in whole vectors
  int64_t part, line;  // how far parts and lines lie apart
  int64_t rows;        // of windows that the scratch has place for; 0 if it is too small for one
  int64_t* columns;    // where in a line each tap meets the first window's pixel
  C* beside;           // (rows, width) values of those windows, whatever they are
  C* values;

  Strip(const ConvolutionProblem& p, void* scratch, int64_t bytes)
      : y(p.y), x(p.x), width(in_vectors<C>(x.positions)), columns(static_cast<int64_t*>(scratch)) {
    // The first cache holds a strip and what is computed of it.
    constexpr int64_t kStripBytes = 16 << 10, kFewRows = 4;
    const int64_t column_bytes = parts(x.taps * sizeof(int64_t), kVectorBytes) * kVectorBytes;
    part = width + in_vectors<C>((x.taps - 1) * x.tap_step / x.step) + kVector<C>;
    line = x.step * part;
    const auto rows_in = [&](int64_t room) {
      const int64_t rest = room / static_cast<int64_t>(sizeof(C)) - 2 * kVector<C> - reach() * line;
      return rest < width ? 0 : (rest - width) / (y.step * line + width) + 1;
    };
    rows = rows_in(kStripBytes);
    if (rows < kFewRows) rows = kFewRows;
    if (rows > rows_in(bytes - column_bytes)) rows = rows_in(bytes - column_bytes);
    if (rows > y.positions) rows = y.positions;
    beside = reinterpret_cast<C*>(static_cast<char*>(scratch) + column_bytes);
    values = beside + rows * width + kVector<C>;
  }

  /// Lines that a window meets.
  int64_t reach() const { return y.taps == 0 ? 0 : (y.taps - 1) * y.tap_step + 1; }

  void find_columns() const {
    for (int64_t j = 0; j < x.taps; ++j) columns[j] = j * x.tap_step % x.step * part + j * x.tap_step / x.step;
  }

  /// Takes from a plane what `count` rows of windows from `row` on meet. Nothing is read from `end` on.
  template <class T>
  void fill(const T* plane, const T* end, int64_t row, int64_t count) const {
    const int64_t first = y.first + row * y.step, lines = (count - 1) * y.step + reach(), used = part - kVector<C>;
    for (int64_t r = 0; r < x.step; ++r) {
      const InBounds met = in_bounds(used, x.step, x.first + r, x.size);
      C* to = values + r * part;
      for (int64_t at = first; at < first + lines; ++at, to += line) {
        const bool exists = at >= 0 && at < y.size;
        const int64_t begin = exists ? met.begin : 0, end_here = exists ? met.end : 0;
        for (int64_t i = 0; i < begin; i += kVector<C>) store<C>(Vector<C>{}, to + i);
        copy_line(plane + at * x.size + x.first + r + begin * x.step, x.step, end_here - begin, end, to + begin,
                  used - begin);
      }
    }
  }

  /// Where the first window of a row of the strip begins.
  const C* corner(int64_t row) const { return values + row * y.step * line; }
};

}  // namespace visionops::VISIONOPS_ISA
