// The register tile of a product whose whole sum is taken at once, so that its values leave the registers finished.
#pragma once

#include "conv/depthwise_values.h"
#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {

/// A tile's values go to rows of the result, `step` apart: with their bias, which may be null, and cut off. Of the last
/// vector of a row, `lanes` values count.
template <class C>
struct ToRows {
  C* out;
  int64_t step;
  const C* bias;
  Clamp<C> clamp;
  int64_t lanes;

  template <int kRows, int kVectors>
  void operator()(const Vector<C> (&sums)[kRows][kVectors]) const {
    const Vector<C> low = Vector<C>{} + clamp.low, high = Vector<C>{} + clamp.high;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const bool whole = v + 1 < kVectors || lanes == kVector<C>;
      Vector<C> shift = {};
      if (bias != nullptr) memcpy(&shift, bias + v * kVector<C>, whole ? sizeof shift : lanes * sizeof(C));
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        // Written so that a NaN goes through.
        Vector<C> value = sums[row][v] + shift;
        value = value < low ? low : value;
        value = value > high ? high : value;
        C* to = out + row * step + v * kVector<C>;
        if (whole) {
          store<C>(value, to);
        } else {
          memcpy(to, &value, lanes * sizeof(C));
        }
      }
    }
  }
};

/// A tile's values wait in memory, rows of kTileColumns.
template <class C>
struct ToTile {
  C* tile;

  template <int kRows, int kVectors>
  void operator()(const Vector<C> (&sums)[kRows][kVectors]) const {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) store<C>(sums[row][v], tile + row * kTileColumns<C> + v * kVector<C>);
    }
  }
};

/// finish(left (rows, depth), its rows `left_step` apart, times right (depth, kTileColumns), its first vectors).
template <int kRows, int kVectors, class C, class Finish>
static void multiply_all(const C* left, int64_t left_step, const C* right, int64_t depth, const Finish& finish) {
  Vector<C> sums[kRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<C> factors[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) factors[v] = load(right + k * kTileColumns<C> + v * kVector<C>);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const C factor = left[row * left_step + k];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[row][v] += factor * factors[v];
    }
  }
  finish(sums);
}

template <class C, class Finish>
using MultiplyAll = void(const C* left, int64_t left_step, const C* right, int64_t depth, const Finish& finish);

/// The kernel for a tile of `rows` rows of which the first `columns` columns count.
template <class C, class Finish, int kRows = kTileRows>
static MultiplyAll<C, Finish>* multiply_all_for(int64_t rows, int64_t columns) {
  if constexpr (kRows == 0) {
    return nullptr;
  } else {
    if (rows < kRows) return multiply_all_for<C, Finish, kRows - 1>(rows, columns);
    return columns <= kVector<C> ? multiply_all<kRows, 1, C, Finish> : multiply_all<kRows, 2, C, Finish>;
  }
}

}  // namespace visionops::VISIONOPS_ISA
