// Values of a depthwise convolution on the CPU, by the kernel that suits its windows.
#include "conv/depthwise_values.h"

#include "conv/depthwise_lines.h"
#include "conv/depthwise_runs.h"
#include "conv/depthwise_taps.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// The sums of `channels` channels from `channel` on at one position: any window and type.
template <class T>
void by_taps(const ConvolutionProblem& p, const WindowAt<T>& window, int64_t channel, int64_t channels,
             const Compute<T>* filters, Compute<T>* to) {
  using C = Compute<T>;
  constexpr int64_t kChunk = 4 * kVector<C>;
  const T* bias = static_cast<const T*>(p.bias);
  for (int64_t done = 0; done < channels; done += kChunk) {
    const int64_t chunk = channels - done < kChunk ? channels - done : kChunk, first = channel + done;
    C sums[kChunk] = {};
    for (int64_t c = 0; c < chunk && bias != nullptr; ++c) sums[c] = to_compute(bias[first + c]);
    each_tap(p, window, [&](int64_t tap, int64_t from) {
      const T* pixel = window.corner + from + first;
      const C* filter = filters + tap * p.groups + first;
      if (chunk == kChunk) {
        for (int64_t c = 0; c < kChunk; ++c) sums[c] += to_compute(pixel[c]) * filter[c];
      } else {
        for (int64_t c = 0; c < chunk; ++c) sums[c] += to_compute(pixel[c]) * filter[c];
      }
    });
    for (int64_t c = 0; c < chunk; ++c) to[done + c] = sums[c];
  }
}

}  // namespace

template <class T>
void depthwise_rows(const ConvolutionProblem& p, int64_t first, int64_t count, int64_t channel, int64_t channels,
                    const Compute<T>* filters, Compute<T>* to, int64_t stride) {
  using C = Compute<T>;
  Position at(p.y, p.x, first);
  int64_t done = 0, finished = 0;
  if constexpr (std::is_same_v<T, C>) {
    const bool nine = p.y.taps == 3 && p.x.taps == 3;
    if (channels >= kVector<C> && (nine || p.y.taps * p.x.taps <= kFewTaps)) {
      done = channels / kVector<C> * kVector<C>;
      const Clamp<C> clamp(p.activation);
      (nine ? by_nine_taps<C> : by_few_taps<C>)(p, at, count, channel, done, filters, clamp, to, stride);
      finished = clamp.exact ? done : 0;
    }
  }
  for (int64_t r = 0; r < count && finished < channels; ++r, at.advance(p.y, p.x), to += stride) {
    by_taps<T>(p, WindowAt<T>(p, at), channel + done, channels - done, filters, to + done);
    activate_values(p.activation, to + finished, channels - finished);
  }
}

template <class T>
void depthwise_columns(const ConvolutionProblem& p, int64_t first, int64_t count, int64_t channel, int64_t channels,
                       const Compute<T>* filters, Compute<T>* to, int64_t stride) {
  using C = Compute<T>;
  bool finished = false;
  if constexpr (std::is_same_v<T, C>) {
    if (are_along_lines<C>(p)) {
      Stretch<C> stretches[2 * kColumnPanels * kMostStretches];
      const int found = stretches_of(p, first, count, stretches);
      (p.x.step == 1 ? by_lines<1, C> : by_lines<2, C>)(p, stretches, found, channel, channels, filters, to, stride);
      if (Clamp<C>(p.activation).exact) return;
      finished = true;
    }
  }
  const T* image = static_cast<const T*>(p.image) + channel * p.y.size * p.x.size;
  const T* bias = p.bias == nullptr ? nullptr : static_cast<const T*>(p.bias) + channel;
  for (int64_t at = 0; at < count; at += kTileColumns<C>, to += stride) {
    const int64_t some = count - at < kTileColumns<C> ? count - at : kTileColumns<C>;
    if (!finished) by_runs(p, image, first + at, some, channels, filters + channel, bias, to);
    activate_values(p.activation, to, channels * kTileColumns<C>);
  }
}

#define VISIONOPS_VALUES_OF(T)                                                                                         \
  template void depthwise_rows<T>(const ConvolutionProblem&, int64_t, int64_t, int64_t, int64_t, const Compute<T>*,    \
                                  Compute<T>*, int64_t);                                                               \
  template void depthwise_columns<T>(const ConvolutionProblem&, int64_t, int64_t, int64_t, int64_t, const Compute<T>*, \
                                     Compute<T>*, int64_t);
VISIONOPS_VALUES_OF(double)
VISIONOPS_VALUES_OF(float)
VISIONOPS_VALUES_OF(f16)
VISIONOPS_VALUES_OF(bf16)
#undef VISIONOPS_VALUES_OF

}  // namespace visionops::VISIONOPS_ISA
