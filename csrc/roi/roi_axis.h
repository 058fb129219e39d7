// The geometry of a RoI along one axis, on host and device: which pixels its bins weigh by samples, or hold.
//
// It runs in double whatever the dtypes, and each product is rounded before it is summed: whether a sample at the
// map's border counts is a decision, and every backend takes the same one.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "roi/roi.h"

namespace visionops::VISIONOPS_ISA {

/// a * b, rounded: never fused with the sum that it goes into.
VISIONOPS_HD inline double product(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  const volatile double rounded = a * b;
  return rounded;
#endif
}

VISIONOPS_HD inline bool is_finite(double value) { return value - value == 0; }

/// How a RoI is divided along one axis of a map.
struct AlignAxis {
  double start;  // of the RoI, in pixels of the map
  double bin;    // extent of a bin; negative where the RoI is inverted
  double grid;   // samples a bin has: a whole number, perhaps not positive
  int64_t size;  // pixels of the map

  VISIONOPS_HD bool is_valid() const { return is_finite(start) && is_finite(bin) && size > 0; }

  VISIONOPS_HD double position(int64_t bin_index, double sample) const {
    return start + product(static_cast<double>(bin_index), bin) + product(sample + 0.5, bin) / grid;
  }
};

VISIONOPS_HD inline AlignAxis align_axis(double low, double high, double scale, bool aligned, int64_t bins,
                                         int64_t sampling_ratio, int64_t size) {
  const double offset = aligned ? 0.5 : 0.0;
  const double start = product(low, scale) - offset;
  double extent = (product(high, scale) - offset) - start;
  if (!aligned && extent < 1) extent = 1;
  const double bin = extent / static_cast<double>(bins);
  return {start, bin, sampling_ratio > 0 ? static_cast<double>(sampling_ratio) : std::ceil(bin), size};
}

/// Whether the sample at a position counts, and what it reads: up to one pixel outside, the border's pixel.
VISIONOPS_HD inline bool sample_at(double position, int64_t size, RoiSample& sample) {
  if (!(position >= -1.0 && position <= static_cast<double>(size))) return false;
  const double inside = position > 0 ? position : 0.0;
  const auto low = static_cast<int64_t>(inside);
  if (low >= size - 1) {
    sample = {static_cast<int32_t>(size - 1), static_cast<int32_t>(size - 1), 0.0};
  } else {
    sample = {static_cast<int32_t>(low), static_cast<int32_t>(low + 1), inside - static_cast<double>(low)};
  }
  return true;
}

/// A sample's fraction in the type computed in, below 1 as it was: of nothing of an infinity there would be a NaN.
template <class C>
VISIONOPS_HD inline C below_one(double fraction) {
  constexpr C kMost = 1 - std::numeric_limits<C>::epsilon() / 2;
  const auto rounded = static_cast<C>(fraction);
  return rounded < kMost ? rounded : kMost;
}

/// Samples of a bin that may count, as numbers [first, last): those far outside are skipped by division, not visited.
struct SampleRange {
  double first, last;
};

VISIONOPS_HD inline SampleRange samples_near(const AlignAxis& axis, int64_t bin_index) {
  // With so many samples each weighs less than the last bit, and their numbers are not exact any more.
  constexpr double kMost = 0x1p50;
  if (!(axis.grid > 0) || axis.grid > kMost) return {0, 0};
  const double step = axis.bin / axis.grid;
  SampleRange range = {0, axis.grid};
  if (step == 0) return range;
  const double origin = axis.start + product(static_cast<double>(bin_index), axis.bin);
  const double at_low = (-1.0 - origin) / step - 0.5;
  const double at_high = (static_cast<double>(axis.size) - origin) / step - 0.5;
  // A sample more at either end: each is asked for its own position.
  const double first = std::floor(step > 0 ? at_low : at_high) - 1;
  const double last = std::ceil(step > 0 ? at_high : at_low) + 2;
  if (first > range.first) range.first = first < range.last ? first : range.last;
  if (last < range.last) range.last = last > range.first ? last : range.first;
  return range;
}

/// Calls emit(pixel, weight) for every pixel that the mean over a bin's samples weighs, in ascending order, once.
template <class Emit>
VISIONOPS_HD inline void visit_weights(const AlignAxis& axis, int64_t bin_index, Emit&& emit) {
  const SampleRange range = samples_near(axis, bin_index);
  const bool ascending = axis.bin >= 0;
  // The weights gathered so far of two neighbouring pixels, this one and the next.
  int32_t pixel = -1;
  double here = 0, next = 0;
  const auto flush = [&] {
    if (here != 0) emit(pixel, here / axis.grid);
  };
  for (double i = range.first; i < range.last; ++i) {
    RoiSample sample;
    const double number = ascending ? i : range.first + (range.last - 1 - i);
    if (!sample_at(axis.position(bin_index, number), axis.size, sample)) continue;
    while (pixel != sample.low) {
      flush();
      // Beyond the next pixel there is nothing yet: go to the sample's at once.
      pixel = next != 0 ? pixel + 1 : sample.low;
      here = next;
      next = 0;
    }
    here += 1 - sample.fraction;
    next += sample.fraction;
  }
  flush();
  here = next;
  ++pixel;
  flush();
}

/// How RoIPool divides a RoI along one axis: its ends are rounded to pixels, and a bin's edges outwards to whole ones.
struct PoolAxis {
  double start, extent;  // whole numbers
  int64_t bins, size;

  VISIONOPS_HD bool is_valid() const { return is_finite(start) && is_finite(extent) && size > 0; }

  /// The pixels [begin, end) of a bin that lie on the map.
  VISIONOPS_HD void pixels(int64_t bin_index, int32_t& begin, int32_t& end) const {
    const double count = static_cast<double>(bins);
    begin = clipped(start + std::floor(static_cast<double>(bin_index) * extent / count));
    end = clipped(start + std::ceil(static_cast<double>(bin_index + 1) * extent / count));
  }

 private:
  VISIONOPS_HD int32_t clipped(double edge) const {
    const double most = static_cast<double>(size);
    return static_cast<int32_t>(edge < 0 ? 0.0 : edge > most ? most : edge);
  }
};

/// Rounds halves away from zero.
VISIONOPS_HD inline PoolAxis pool_axis(double low, double high, double scale, int64_t bins, int64_t size) {
  const double start = std::round(product(low, scale)), end = std::round(product(high, scale));
  const double extent = end - start + 1;
  return {start, extent > 1 ? extent : extent <= 1 ? 1.0 : extent, bins, size};
}

}  // namespace visionops::VISIONOPS_ISA
