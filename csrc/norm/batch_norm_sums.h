// Sums over a channel's elements, whose order does not depend on threads: in lanes of a vector or columns of rows.
#pragma once

#include "norm/fused_batch_norm.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kColumns = kBatchNormColumns;

/// Sums of u and of u v over elements of one channel, each in as many lanes as a vector of 64 bytes has.
template <class C>
struct LaneSums {
  static constexpr int64_t kLanes = 64 / sizeof(C);
  C first[kLanes] = {}, second[kLanes] = {};

  /// Adds n elements, u and v less their origins.
  void add(const C* __restrict u, C origin_u, const C* __restrict v, C origin_v, int64_t n) {
    C sums[kLanes], products[kLanes];  // in registers; unrolled loops over them GCC 12 would vectorise across, badly
#pragma GCC unroll 1
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] = first[lane], products[lane] = second[lane];
    const auto add_vector = [&](int64_t i, C* some_sums, C* some_products) {
#pragma GCC unroll 1
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const C value = u[i + lane] - origin_u;
        some_sums[lane] += value;
        some_products[lane] += value * (v[i + lane] - origin_v);
      }
    };
    int64_t i = 0;
    if (n >= 2 * kLanes) {
      // Every second vector has sums of its own: an addition waits for the one before it longer than for its elements.
      C other_sums[kLanes] = {}, other_products[kLanes] = {};
      for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
        add_vector(i, sums, products);
        add_vector(i + kLanes, other_sums, other_products);
      }
#pragma GCC unroll 1
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        sums[lane] += other_sums[lane];
        products[lane] += other_products[lane];
      }
    }
    if (i + kLanes <= n) {
      add_vector(i, sums, products);
      i += kLanes;
    }
    if (i < n && n >= kLanes) {
      // The last vector again, without the lanes that were added: sums that went through memory would stall the next.
      const int64_t added = kLanes - (n - i), last = n - kLanes;
#pragma GCC unroll 1
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const C value = lane < added ? C(0) : u[last + lane] - origin_u;
        sums[lane] += value;
        products[lane] += value * (lane < added ? C(0) : v[last + lane] - origin_v);
      }
    } else {
      for (int64_t lane = 0; i < n; ++i, ++lane) {
        const C value = u[i] - origin_u;
        sums[lane] += value;
        products[lane] += value * (v[i] - origin_v);
      }
    }
#pragma GCC unroll 1
    for (int64_t lane = 0; lane < kLanes; ++lane) first[lane] = sums[lane], second[lane] = products[lane];
  }

  double sum() const { return total(first); }
  double products() const { return total(second); }

 private:
  static double total(const C* lanes) {
    double sum = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) sum += static_cast<double>(lanes[lane]);
    return sum;
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
