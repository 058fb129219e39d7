// The register tile: a small block of a matrix product held in vector registers over a run of its sum.
#pragma once

#include <cstring>

#include "conv/activation.h"

namespace visionops::VISIONOPS_ISA {

// As many rows of two vectors as leave registers for the vectors multiplied with.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kTileRows = 14;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kTileRows = 6;
#else
constexpr int kVectorBytes = 16, kTileRows = 6;
#endif

template <class C>
constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(C));

/// Columns of a tile.
template <class C>
constexpr int kTileColumns = 2 * kVector<C>;

/// Terms of the sum that are packed at a time; rows of the left factor lie so far apart that they fall into different
/// sets of the first cache.
constexpr int kDepth = 320;

template <class C>
constexpr int kRowStride = kDepth + 64 / static_cast<int>(sizeof(C));

template <class C>
struct VectorOf {
  typedef C type __attribute__((vector_size(kVectorBytes), may_alias));
};

template <class C>
using Vector = typename VectorOf<C>::type;

template <class C>
static inline Vector<C> load(const C* from) {
  Vector<C> value;
  memcpy(&value, from, sizeof value);
  return value;
}

template <class C>
static inline void store(const Vector<C>& value, C* to) {
  memcpy(to, &value, sizeof value);
}

/// Replaces `count` values by their activation.
template <class C>
static inline void activate_values(Activation activation, C* values, int64_t count) {
  if (activation == Activation::none) return;
  activate(values, sizeof(C) == sizeof(float) ? DType::f32 : DType::f64, activation, 0, count);
}

/// The bounds of an activation, for vectors. Passed by value: behind a reference they would be read again after each
/// store.
template <class C>
struct Clamp : Bounds<C> {
  bool exact;  // they are all of it

  explicit Clamp(Activation activation) : Bounds<C>(activation), exact(is_bounds(activation)) {}

  // Written so that a NaN goes through.
  Vector<C> operator()(Vector<C> value) const {
    const Vector<C> least = Vector<C>{} + this->low, most = Vector<C>{} + this->high;
    value = value < least ? least : value;
    return value > most ? most : value;
  }
};

/// Where the values of a tile go: rows `step` apart, with their bias, which may be null, and cut off. Of the last
/// vector of a row, `lanes` values count.
template <class C>
struct TileRows {
  C* out;
  int64_t step;
  const C* bias;
  Clamp<C> clamp;
  int64_t lanes;

  TileRows(C* out, int64_t step, const C* bias, Clamp<C> clamp, int64_t columns)
      : out(out), step(step), bias(bias), clamp(clamp), lanes(columns > kVector<C> ? columns - kVector<C> : columns) {}

  /// Values as they are, in rows of kTileColumns.
  explicit TileRows(C* tile) : TileRows(tile, kTileColumns<C>, nullptr, Clamp<C>(Activation::none), kTileColumns<C>) {}
};

/// Writes left (rows, depth), its rows left_step apart, times right (depth, kTileColumns), its first vectors; with
/// `add`, plus what stands there.
template <class C>
using Multiply = void(const C* left, int64_t left_step, const C* right, int64_t depth, bool add, TileRows<C> to);

/// The kernel for a tile of `rows` rows of which the first `columns` columns count; of float and double.
template <class C>
Multiply<C>* multiply_for(int64_t rows, int64_t columns);

}  // namespace visionops::VISIONOPS_ISA
