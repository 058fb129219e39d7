// The register tile: a small block of a matrix product held in vector registers over a run of its sum.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/target.h"

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

/// tile (rows, kTileColumns), its first vectors columns, = or += left (rows, depth) times right (depth, kTileColumns).
/// Rows of left are kRowStride apart.
template <int kRows, int kVectors, class C>
static void multiply(const C* left, const C* right, int64_t depth, bool add, C* tile) {
  constexpr int kLanes = kVector<C>;
  Vector<C> sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[row][v] = add ? load(tile + row * kTileColumns<C> + v * kLanes) : Vector<C>{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vector<C> factors[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) factors[v] = load(right + k * kTileColumns<C> + v * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const C factor = left[row * kRowStride<C> + k];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[row][v] += factor * factors[v];
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store<C>(sums[row][v], tile + row * kTileColumns<C> + v * kLanes);
  }
}

template <class C>
using Multiply = void(const C* left, const C* right, int64_t depth, bool add, C* tile);

/// The kernel for a tile of `rows` rows of which the first `columns` columns count.
template <class C, int kRows = kTileRows>
static Multiply<C>* multiply_for(int rows, int columns) {
  if constexpr (kRows == 0) {
    return nullptr;
  } else {
    if (rows < kRows) return multiply_for<C, kRows - 1>(rows, columns);
    return columns <= kVector<C> ? multiply<kRows, 1, C> : multiply<kRows, 2, C>;
  }
}

}  // namespace visionops::VISIONOPS_ISA
