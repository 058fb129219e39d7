// A strip of a plane laid out for a depthwise window, so that the values which neighbouring windows meet are
// neighbours.
#pragma once

#include "conv/convolution.h"
#include "conv/product.h"
#include "conv/turn.h"
#include "conv/window.h"

namespace visionops::VISIONOPS_ISA {

/// The same windows, their taps in the order of the pixels: an adjoint's go the other way.
static inline Axis ascending(Axis axis) {
  if (axis.tap_step >= 0) return axis;
  axis.first += (axis.taps - 1) * axis.tap_step;
  axis.tap_step = -axis.tap_step;
  axis.weight_first += (axis.taps - 1) * axis.weight_step;
  axis.weight_step = -axis.weight_step;
  return axis;
}

static inline ConvolutionProblem ascending(ConvolutionProblem problem) {
  problem.y = ascending(problem.y);
  problem.x = ascending(problem.x);
  return problem;
}

template <class C>
static inline int64_t in_vectors(int64_t count) {
  return parts(count, kVector<C>) * kVector<C>;
}

/// Where a line's values lie that windows meet: `count` of them, in memory `from_step` apart, in the strip `to_step`,
/// and zeros before, between and behind, `size` values in all.
struct LineMap {
  int64_t from, from_step, count;
  int64_t to, to_step, size;
};

/// Lays out a line, and writes up to two vectors more. A `readable` one may be read a vector further than it reaches.
template <class T, class C>
static inline void lay_out(const LineMap& map, const T* line, bool readable, C* to) {
  for (int64_t i = 0; i < map.to; i += kVector<C>) store<C>(Vector<C>{}, to + i);
  const T* from = line + map.from;
  C* first = to + map.to;
  int64_t done = 0;
  if constexpr (std::is_same_v<T, C>) {
    constexpr std::make_integer_sequence<int, kVector<C>> kLanes;
    if (readable && map.to_step == 1 && map.from_step == 1) {
      for (; done < map.count; done += kVector<C>) store<C>(load(from + done), first + done);
    } else if (readable && map.to_step == 1 && map.from_step == 2) {
      for (; done < map.count; done += kVector<C>) {
        store<C>(across<0, 2, C>(load(from + 2 * done), load(from + 2 * done + kVector<C>), kLanes), first + done);
      }
    } else if (readable && map.to_step == 2 && map.from_step == 1) {
      for (; done < map.count; done += kVector<C>) {
        const Vector<C> values = load(from + done);
        store<C>(interleave<C, 0>(values, Vector<C>{}, kLanes), first + 2 * done);
        store<C>(interleave<C, kVector<C> / 2>(values, Vector<C>{}, kLanes), first + 2 * done + kVector<C>);
      }
    }
  }
  const int64_t behind = done == 0 && map.to_step > 1 ? 0 : map.count * map.to_step;
  for (int64_t i = map.to + behind; i < map.size; i += kVector<C>) store<C>(Vector<C>{}, to + i);
  for (; done < map.count; ++done) first[done * map.to_step] = to_compute(from[done * map.from_step]);
}

/// Lines of a plane, widened to C and with zeros around the image. A line lies in as many parts as the stride has
/// pixels: column c at place c / stride of part c % stride.
template <class C>
struct Strip {
  const Axis &y, &x;
  int64_t width;       // of a row of windows in whole vectors
  int64_t used;        // values of a part that windows meet
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
    used = x.positions + (x.taps - 1) * x.tap_step / x.step;
    part = in_vectors<C>(used) + 2 * kVector<C>;
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
    values = beside + rows * width + 2 * kVector<C>;
  }

  /// Lines that a window meets.
  int64_t reach() const { return y.taps == 0 ? 0 : (y.taps - 1) * y.tap_step + 1; }

  void find_columns() const {
    for (int64_t j = 0; j < x.taps; ++j) columns[j] = j * x.tap_step % x.step * part + j * x.tap_step / x.step;
  }

  /// Takes from a plane what `count` rows of windows from `row` on meet. Nothing is read from `end` on.
  template <class T>
  void fill(const T* plane, const T* end, int64_t row, int64_t count) const {
    const int64_t first = y.first + row * y.step, last = first + (count - 1) * y.step + reach();
    for (int64_t r = 0; r < x.step; ++r) {
      LineMap map = of_part(r);
      const int64_t read = in_vectors<C>(map.count) * map.from_step, met = map.count;
      C* to = values + r * part;
      for (int64_t at = first; at < last; ++at, to += line) {
        const int64_t pixel = y.apart == 1 ? at : at % y.apart == 0 ? at / y.apart : -1;
        const bool exists = pixel >= 0 && pixel < y.size;
        const T* from = plane + (exists ? pixel * x.size : 0);
        map.count = exists ? met : 0;
        lay_out(map, from, end - from - map.from >= read, to);
      }
    }
  }

  /// Where the first window of a row of the strip begins.
  const C* corner(int64_t row) const { return values + row * y.step * line; }

 private:
  LineMap of_part(int64_t r) const {
    const int64_t first = x.first + r;  // what place 0 meets
    if (x.apart == 1) {
      const InBounds met = in_bounds(used, x.step, first, x.size);
      return {first + met.begin * x.step, x.step, met.end - met.begin, met.begin, 1, used};
    }
    const int64_t pixel = first > 0 ? parts(first, x.apart) : 0, to = pixel * x.apart - first;
    const int64_t most = to < used ? parts(used - to, x.apart) : 0, rest = x.size > pixel ? x.size - pixel : 0;
    return {pixel, 1, most < rest ? most : rest, to < used ? to : used, x.apart, used};
  }
};

}  // namespace visionops::VISIONOPS_ISA
