// Planes turned into the channels of an image, which are vectors, and back: squares of 16 bytes a side, in registers.
//
// A row of a small plane is too short for vectors, and what a row costs besides is more than its pixels.
#pragma once

#include <utility>

#include "pool/avg_fold.h"
#include "pool/max_fold.h"

namespace visionops::VISIONOPS_ISA {

// Planes that are turned at a time.
constexpr int64_t kTurned = 16;

template <class E>
struct SquareOf {
  typedef E Row __attribute__((vector_size(16)));
};

/// A row of a square of values of type T, which are moved as bits.
template <class T>
using SquareRow = typename SquareOf<std::conditional_t<
    sizeof(T) == 1, uint8_t,
    std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>>::Row;

/// The lower or upper halves of two rows, value by value in turn.
template <int first, class Row, int... k>
inline Row interleaved(const Row& a, const Row& b, std::integer_sequence<int, k...>) {
  constexpr int count = sizeof...(k);
  const Row order = {static_cast<std::remove_reference_t<decltype(a[0] + a[0])>>(first + k / 2 + k % 2 * count)...};
  return __builtin_shuffle(a, b, order);
}

/// to[column * to_apart + row] = from[row * from_apart + column]: each stage deals the rows of its two halves in turn.
template <class T>
inline void turn_square(const T* from, int64_t from_apart, T* to, int64_t to_apart) {
  using Row = SquareRow<T>;
  constexpr int side = 16 / sizeof(T);
  constexpr std::make_integer_sequence<int, side> each;
  Row rows[side];
#pragma GCC unroll 16
  for (int i = 0; i < side; ++i) memcpy(&rows[i], from + i * from_apart, sizeof(Row));
#pragma GCC unroll 4
  for (int stage = 1; stage < side; stage *= 2) {
    Row next[side];
#pragma GCC unroll 8
    for (int i = 0; i < side / 2; ++i) {
      next[2 * i] = interleaved<0>(rows[i], rows[i + side / 2], each);
      next[2 * i + 1] = interleaved<side / 2>(rows[i], rows[i + side / 2], each);
    }
#pragma GCC unroll 16
    for (int i = 0; i < side; ++i) rows[i] = next[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < side; ++i) memcpy(to + i * to_apart, &rows[i], sizeof(Row));
}

/// The same of some rows and columns.
template <class T>
void turn(const T* from, int64_t rows, int64_t columns, int64_t from_apart, T* to, int64_t to_apart) {
  constexpr int64_t side = 16 / sizeof(T);
  const int64_t whole_rows = rows / side * side, whole_columns = columns / side * side;
  for (int64_t column = 0; column < whole_columns; column += side) {
    for (int64_t row = 0; row < whole_rows; row += side) {
      turn_square(from + row * from_apart + column, from_apart, to + column * to_apart + row, to_apart);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = row < whole_rows ? whole_columns : 0; column < columns; ++column) {
      to[column * to_apart + row] = from[row * from_apart + column];
    }
  }
}

// Pixels of turned planes that are converted at a time.
constexpr int64_t kTurnedBlock = 32;

/// Some pixels of at most kTurned planes, that are `apart`, to an image of kTurned channels: those left over become 0.
template <class T, class C>
void turn_planes(const T* planes, int64_t count, int64_t apart, int64_t pixels, C* image) {
  if (count < kTurned) memset(image, 0, pixels * kTurned * sizeof(C));
  if constexpr (std::is_same_v<T, C>) {
    turn(planes, count, pixels, apart, image, kTurned);
  } else {
    T block[kTurnedBlock * kTurned] = {};
    for (int64_t begin = 0; begin < pixels; begin += kTurnedBlock) {
      const int64_t some = pool_min(kTurnedBlock, pixels - begin);
      turn(planes + begin, count, some, apart, block, kTurned);
      widen(block, image + begin * kTurned, some * kTurned);
    }
  }
}

/// The other way, of as many channels as there are planes.
template <class C, class T>
void turn_back(const C* image, int64_t pixels, int64_t count, int64_t apart, T* planes) {
  if constexpr (std::is_same_v<T, C>) {
    turn(image, pixels, count, kTurned, planes, apart);
  } else {
    T block[kTurnedBlock * kTurned];
    for (int64_t begin = 0; begin < pixels; begin += kTurnedBlock) {
      const int64_t some = pool_min(kTurnedBlock, pixels - begin);
      pool_convert(image + begin * kTurned, block, some * kTurned);
      turn(block, some, count, kTurned, planes + begin, apart);
    }
  }
}

/// Whether planes are turned: there are enough of them, and both sides of a group stay in the second cache.
template <class Shape>
bool turns_planes(const Shape& shape) {
  constexpr int64_t small = 1024;
  return shape.inner == 1 && shape.outer >= kTurned && shape.y.in * shape.x.in <= small &&
         shape.y.out * shape.x.out <= small;
}

/// The image that a group of planes is.
template <class Shape>
Shape turned(Shape shape) {
  shape.outer = 1;
  shape.inner = kTurned;
  return shape;
}

/// Memory for a group of planes as an image of `from` pixels, and for what becomes of it, of `to` pixels.
template <class C>
class TurnedPlanes {
 public:
  TurnedPlanes(int64_t planes, int64_t from, int64_t to, PoolScratch& scratch)
      : planes_(planes),
        from_(from),
        to_(to),
        image_(scratch.take<C>(from * kTurned)),
        result_(scratch.take<C>(to * kTurned)) {}

  PoolWork work(const PoolScratch& scratch) const {
    return {pool_ceil_div(planes_, kTurned), pool_max(from_, to_) * kTurned, scratch.bytes()};
  }

  /// Calls f(image, result) for a group of planes.
  template <class T, class F>
  void run(int64_t group, const T* from, T* to, F&& f) const {
    turn_planes(from + group * kTurned * from_, planes_in(group), from_, from_, image_);
    f(static_cast<const C*>(image_), result_);
    store(group, result_, to);
  }

  /// Something else that became of it.
  template <class V, class T>
  void store(int64_t group, const V* result, T* to) const {
    turn_back(result, to_, planes_in(group), to_, to + group * kTurned * to_);
  }

 private:
  int64_t planes_in(int64_t group) const { return pool_min(kTurned, planes_ - group * kTurned); }

  int64_t planes_, from_, to_;
  C* image_;
  C* result_;
};

/// Small planes whose windows or bins are folded as channels, an item being a group of planes.
template <class C, class Shape>
class TurnedFolds {
 public:
  TurnedFolds(const Shape& shape, PoolScratch& scratch)
      : turned_(turned(shape)),
        planes_(shape.outer, shape.y.in * shape.x.in, shape.y.out * shape.x.out, scratch),
        numbers_(scratch.take<int64_t>(shape.y.out * shape.x.out * kTurned)) {}

  PoolWork work(const PoolScratch& scratch) const { return planes_.work(scratch); }

  /// `divisor` as of AverageFold.
  template <class T, class Divisor>
  void average(Divisor divisor, const T* input, T* output, int64_t begin, int64_t end) const {
    for (int64_t group = begin; group < end; ++group) {
      planes_.run(group, input, output, [&](const C* image, C* result) { walk(image, average_fold(divisor, result)); });
    }
  }

  /// Numbers are of type O; there are none if it is void.
  template <class T, class O>
  void maximum(const T* input, T* output, O* numbers, int64_t begin, int64_t end) const {
    O* const found = reinterpret_cast<O*>(numbers_);
    for (int64_t group = begin; group < end; ++group) {
      planes_.run(group, input, output,
                  [&](const C* image, C* result) { walk(image, MaximumFold<C, O>(result, found)); });
      if constexpr (!std::is_void_v<O>) planes_.store(group, found, numbers);
    }
  }

 private:
  template <class Fold>
  void walk(const C* image, Fold&& fold) const {
    const PoolCut cut(kTurned, turned_.x.in, turned_.y.out, 1);
    walk_windows(turned_, cut, image, fold, 0, cut.items(1));
  }

  Shape turned_;
  TurnedPlanes<C> planes_;
  int64_t* numbers_;
};

}  // namespace visionops::VISIONOPS_ISA
