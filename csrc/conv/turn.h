// Rows packed as columns: squares of vectors are turned in registers.
#pragma once

#include <type_traits>
#include <utility>

#include "common/dtype.h"
#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {

template <class C>
using Lane = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;

/// The lower or upper halves of two vectors, lane by lane in turn.
template <class C, int kFirst, int... kLanes>
static inline Vector<C> interleave(Vector<C> a, Vector<C> b, std::integer_sequence<int, kLanes...>) {
  constexpr int kCount = sizeof...(kLanes);
  const Vector<Lane<C>> order = {(kFirst + kLanes / 2 + kLanes % 2 * kCount)...};
  return __builtin_shuffle(a, b, order);
}

/// Lanes kFirst, kFirst + kStep and so on of two neighbouring vectors.
template <int kFirst, int kStep, class C, int... kLanes>
static inline Vector<C> across(Vector<C> a, Vector<C> b, std::integer_sequence<int, kLanes...>) {
  const Vector<Lane<C>> order = {(kFirst + kLanes * kStep)...};
  return __builtin_shuffle(a, b, order);
}

/// Turns a square of vectors: each stage interleaves its first half with its second.
template <class C>
static inline void turn(Vector<C>* square) {
  constexpr int kCount = kVector<C>;
  using Lanes = std::make_integer_sequence<int, kCount>;
#pragma GCC unroll 4
  for (int stage = 1; stage < kCount; stage *= 2) {
    Vector<C> next[kCount];
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      next[2 * i] = interleave<C, 0>(square[i], square[i + kCount / 2], Lanes{});
      next[2 * i + 1] = interleave<C, kCount / 2>(square[i], square[i + kCount / 2], Lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) square[i] = next[i];
  }
}

/// to[i * kTileColumns + row] = from[row * row_step + i * step] for `count` values of each of `rows` rows, at most a
/// vector's lanes; the other lanes of the vector become 0.
template <class T, class C>
static void pack_turned(const T* from, int64_t row_step, int64_t rows, int64_t step, int64_t count, C* to) {
  constexpr int kLanes = kVector<C>;
  int64_t done = 0;
  if constexpr (std::is_same_v<T, C>) {
    if (step == 1 && rows == kLanes) {
      for (; done + kLanes <= count; done += kLanes) {
        Vector<C> square[kLanes];
#pragma GCC unroll 16
        for (int row = 0; row < kLanes; ++row) square[row] = load(from + row * row_step + done);
        turn<C>(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store<C>(square[i], to + (done + i) * kTileColumns<C>);
      }
    } else if (row_step == 1 && rows == kLanes) {
      for (; done < count; ++done) store<C>(load(from + done * step), to + done * kTileColumns<C>);
    }
  }
  for (; done < count; ++done) {
    C* lanes = to + done * kTileColumns<C>;
    for (int64_t row = 0; row < rows; ++row) lanes[row] = to_compute(from[row * row_step + done * step]);
    for (int64_t row = rows; row < kLanes; ++row) lanes[row] = C(0);
  }
}

/// The other way round: to[row * row_step + i] = from[i * step + row] for `count` values of each of `rows` rows.
/// Squares are read whole, beyond these rows but not beyond `end`.
template <class T, class C>
static void pack_rows(const T* from, const T* end, int64_t step, int64_t rows, int64_t count, C* to, int64_t row_step) {
  constexpr int kLanes = kVector<C>;
  int64_t done = 0;
  if constexpr (std::is_same_v<T, C>) {
    const int64_t width = (rows + kLanes - 1) / kLanes * kLanes;
    for (; done + kLanes <= count && width <= end - (from + (done + kLanes - 1) * step); done += kLanes) {
      for (int64_t row = 0; row < rows; row += kLanes) {
        Vector<C> square[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) square[i] = load(from + (done + i) * step + row);
        turn<C>(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          if (row + i < rows) store<C>(square[i], to + (row + i) * row_step + done);
        }
      }
    }
  }
  for (; done < count; ++done) {
    for (int64_t row = 0; row < rows; ++row) to[row * row_step + done] = to_compute(from[done * step + row]);
  }
}

}  // namespace visionops::VISIONOPS_ISA
