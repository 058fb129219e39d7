// Depthwise convolution on the CPU, from planes or rows of pixels.
#include "conv/depthwise.h"

#include "conv/depthwise_planes.h"
#include "conv/depthwise_values.h"
#include "conv/factors.h"

namespace visionops::VISIONOPS_ISA {
namespace {

template <class T>
void rows(const ConvolutionProblem& p, const Compute<T>* filters, int64_t begin, int64_t end) {
  using C = Compute<T>;
  const int64_t width = p.x.positions, step = p.x.out_step * p.groups;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t y = row / p.y.positions * p.out_height + p.y.out_first + row % p.y.positions * p.y.out_step;
    T* out = static_cast<T*>(p.out) + (y * p.out_width + p.x.out_first) * p.groups;
    if constexpr (std::is_same_v<T, C>) {
      depthwise_rows<T>(p, row * width, width, 0, p.groups, filters, out, step);
    } else {
      constexpr int64_t kPositions = 14, kChannels = 8 * kVector<C>;
      C values[kPositions * kChannels];
      for (int64_t x = 0; x < width; x += kPositions) {
        const int64_t count = width - x < kPositions ? width - x : kPositions;
        for (int64_t channel = 0; channel < p.groups; channel += kChannels) {
          const int64_t channels = p.groups - channel < kChannels ? p.groups - channel : kChannels;
          depthwise_rows<T>(p, row * width + x, count, channel, channels, filters, values, kChannels);
          for (int64_t r = 0; r < count; ++r) {
            T* to = out + (x + r) * step + channel;
            for (int64_t c = 0; c < channels; ++c) to[c] = from_compute<T>(values[r * kChannels + c]);
          }
        }
      }
    }
  }
}

}  // namespace

void depthwise_filters(const ConvolutionProblem& any, void* filters) {
  const ConvolutionProblem problem = ascending(any);
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    auto* to = static_cast<Compute<T>*>(filters);
    const Group<T> first(problem, 0);
    for (int64_t tap = 0; tap < problem.y.taps * problem.x.taps; ++tap) {
      const T* from = first.weight_of(0, 0, tap);
      for (int64_t channel = 0; channel < problem.groups; ++channel, from += problem.weight_strides.group) {
        *to++ = to_compute(*from);
      }
    }
  });
}

int64_t depthwise_items(const ConvolutionProblem& problem) {
  return problem.batch * (problem.channels_last ? problem.y.positions : problem.groups);
}

void depthwise(const ConvolutionProblem& any, const void* filters, void* scratch, int64_t begin, int64_t end) {
  const ConvolutionProblem problem = ascending(any);
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* by_tap = static_cast<const Compute<T>*>(filters);
    if (problem.channels_last) {
      rows<T>(problem, by_tap, begin, end);
    } else {
      depthwise_planes<T>(problem, by_tap, scratch, begin, end);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
