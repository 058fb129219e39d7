// Sums over a channel's elements, whose order does not depend on threads: in lanes of a vector or columns of rows.
#pragma once

#include <cstring>
#include <type_traits>

#include "norm/fused_batch_norm.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kColumns = kBatchNormColumns;

// Vectors of the machine's size, and as many sums as hide how long an addition waits for the one before it.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kChains = 2;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kChains = 4;
#else
constexpr int kVectorBytes = 16, kChains = 4;
#endif

/// Sums of u and of u v over elements of one channel, in lanes of vectors.
template <class C>
class LaneSums {
 public:
  static constexpr int64_t kLanes = kVectorBytes / sizeof(C);

  /// Adds n elements, u and v less their origins.
  void add(const C* __restrict u, C origin_u, const C* __restrict v, C origin_v, int64_t n) {
    int64_t i = 0;
    for (; i + kChains * kLanes <= n; i += kChains * kLanes) {
#pragma GCC unroll 4
      for (int chain = 0; chain < kChains; ++chain) {
        const int64_t at = i + chain * kLanes;
        add_vector(chain, load(u + at) - origin_u, load(v + at) - origin_v);
      }
    }
    for (; i + kLanes <= n; i += kLanes) add_vector(0, load(u + i) - origin_u, load(v + i) - origin_v);
    if (i == n) return;
    if (n >= kLanes) {
      // The last vector again, without the lanes that were added.
      const auto added = numbers() < static_cast<Number>(kLanes - (n - i));
      const int64_t last = n - kLanes;
      add_vector(1, added ? Vector{} : load(u + last) - origin_u, added ? Vector{} : load(v + last) - origin_v);
    } else {
      C some_u[kLanes] = {}, some_v[kLanes] = {};
      for (int64_t k = 0; k < n; ++k) some_u[k] = u[k] - origin_u, some_v[k] = v[k] - origin_v;
      add_vector(1, load(some_u), load(some_v));
    }
  }

  double sum() const { return total(first_); }
  double products() const { return total(second_); }

 private:
  typedef C Vector __attribute__((vector_size(kVectorBytes)));
  using Number = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;
  typedef Number Numbers __attribute__((vector_size(kVectorBytes)));

  Vector first_[kChains] = {}, second_[kChains] = {};

  static Vector load(const C* from) {
    Vector value;
    memcpy(&value, from, sizeof value);
    return value;
  }

  static Numbers numbers() {
    Numbers of_lanes = {};
    for (int lane = 0; lane < kLanes; ++lane) of_lanes[lane] = lane;
    return of_lanes;
  }

  void add_vector(int chain, const Vector& u, const Vector& v) {
    first_[chain] += u;
    second_[chain] += u * v;
  }

  static double total(const Vector (&chains)[kChains]) {
    Vector sum = chains[0];
    for (int chain = 1; chain < kChains; ++chain) sum += chains[chain];
    double lanes[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = static_cast<double>(sum[lane]);
    return folded_by_halves<kLanes>(lanes);
  }

  // One after the other they take longer than the elements of a small map.
  template <int64_t kCount>
  static double folded_by_halves(const double* lanes) {
    if constexpr (kCount == 1) {
      return lanes[0];
    } else {
      double half[kCount / 2];
      for (int64_t lane = 0; lane < kCount / 2; ++lane) half[lane] = lanes[lane] + lanes[lane + kCount / 2];
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
