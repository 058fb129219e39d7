// The register tile's kernels, one for each of its sizes.
#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {
namespace {

template <int kRows, int kVectors, class C>
void multiply(const C* left, int64_t left_step, const C* right, int64_t depth, bool add, TileRows<C> to) {
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
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const bool whole = v + 1 < kVectors || to.lanes == kVector<C>;
    Vector<C> shift = {};
    if (to.bias != nullptr) memcpy(&shift, to.bias + v * kVector<C>, whole ? sizeof shift : to.lanes * sizeof(C));
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      C* at = to.out + row * to.step + v * kVector<C>;
      // Read this late, what stands there takes no register from the sums.
      if (add) sums[row][v] += load(at);
      const Vector<C> value = to.clamp(sums[row][v] + shift);
      if (whole) {
        store<C>(value, at);
      } else {
        memcpy(at, &value, to.lanes * sizeof(C));
      }
    }
  }
}

template <class C, int kRows = kTileRows>
Multiply<C>* kernel_for(int64_t rows, int64_t columns) {
  if constexpr (kRows == 0) {
    return nullptr;
  } else {
    if (rows < kRows) return kernel_for<C, kRows - 1>(rows, columns);
    return columns <= kVector<C> ? multiply<kRows, 1, C> : multiply<kRows, 2, C>;
  }
}

}  // namespace

template <class C>
Multiply<C>* multiply_for(int64_t rows, int64_t columns) {
  return kernel_for<C>(rows, columns);
}

template Multiply<float>* multiply_for<float>(int64_t rows, int64_t columns);
template Multiply<double>* multiply_for<double>(int64_t rows, int64_t columns);

}  // namespace visionops::VISIONOPS_ISA
