// Sums over a channel's elements, whose order does not depend on threads: in lanes of a vector or columns of rows.
#pragma once

#include "common/lanes.h"
#include "norm/fused_batch_norm.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kColumns = kBatchNormColumns;

// As many sums as hide how long an addition waits for the one before it.
constexpr int kChains = kVectorBytes == 64 ? 2 : 4;

/// Elements less their origin, by vectors; 0 in lanes beyond them.
template <class T>
struct Centred {
  using C = Compute<T>;

  const T* from;
  C origin;

  VISIONOPS_INLINE Lanes<C> operator()(int64_t i) const { return load(from + i) - origin; }

  VISIONOPS_INLINE Lanes<C> operator()(int64_t i, int n) const {
    decltype(Lanes<C>{} < Lanes<C>{}) lanes = {};
    for (int lane = 0; lane < kLanes<C>; ++lane) lanes[lane] = lane;
    return lanes < n ? load(from + i, n) - origin : Lanes<C>{};
  }
};

/// Sums of u and of u v over elements of one channel, in lanes of vectors.
template <class C>
class LaneSums {
 public:
  /// Adds n elements, u and v giving the vector from an element on and its first lanes.
  template <class U, class V>
  [[gnu::noinline]] void add(const U& u, const V& v, int64_t n) {
    Lanes<C> sums[kChains], products[kChains];
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = first_[chain], products[chain] = second_[chain];
    const auto add_vector = [&](int chain, const Lanes<C>& some_u, const Lanes<C>& some_v) {
      sums[chain] += some_u;
      products[chain] += some_u * some_v;
    };
    int64_t i = 0;
    for (; i + kChains * kLanes<C> <= n; i += kChains * kLanes<C>) {
#pragma GCC unroll 4
      for (int chain = 0; chain < kChains; ++chain) {
        add_vector(chain, u(i + chain * kLanes<C>), v(i + chain * kLanes<C>));
      }
    }
    // The rest by turns too: in sums of many short runs one chain would round most of them.
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains - 1; ++chain) {
      if (i + kLanes<C> > n) break;
      add_vector(chain, u(i), v(i));
      i += kLanes<C>;
    }
    if (i < n) add_vector(kChains - 1, u(i, static_cast<int>(n - i)), v(i, static_cast<int>(n - i)));
    for (int chain = 0; chain < kChains; ++chain) first_[chain] = sums[chain], second_[chain] = products[chain];
  }

  double sum() const { return total(first_); }
  double products() const { return total(second_); }

 private:
  Lanes<C> first_[kChains] = {}, second_[kChains] = {};

  static double total(const Lanes<C> (&chains)[kChains]) {
    Lanes<C> sum = chains[0];
    for (int chain = 1; chain < kChains; ++chain) sum += chains[chain];
    double lanes[kLanes<C>];
    for (int lane = 0; lane < kLanes<C>; ++lane) lanes[lane] = static_cast<double>(sum[lane]);
    return folded_by_halves<kLanes<C>>(lanes);
  }

  // One after the other they take longer than the elements of a small map.
  template <int kCount>
  static double folded_by_halves(const double* lanes) {
    if constexpr (kCount == 1) {
      return lanes[0];
    } else {
      double half[kCount / 2];
      for (int lane = 0; lane < kCount / 2; ++lane) half[lane] = lanes[lane] + lanes[lane + kCount / 2];
      return folded_by_halves<kCount / 2>(half);
    }
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
