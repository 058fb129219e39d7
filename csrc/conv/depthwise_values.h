// Values of a depthwise convolution: many channels of a few positions, or many positions of a channel.
#pragma once

#include "conv/depthwise_taps.h"
#include "conv/image_columns.h"

namespace visionops::VISIONOPS_ISA {

/// to[i] = activation(values[i] + bias[i * bias_step]).
template <class T, class C>
static void activate_values(Activation activation, const C* values, const T* bias, int64_t bias_step, int64_t count,
                            C* to) {
  visit_activation(activation, [&](auto tag) {
    constexpr Activation kind = decltype(tag)::activation;
    if (bias == nullptr) {
      for (int64_t i = 0; i < count; ++i) to[i] = activated<kind>(values[i]);
    } else if (bias_step == 0) {
      const C shared = to_compute(*bias);
      for (int64_t i = 0; i < count; ++i) to[i] = activated<kind>(values[i] + shared);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = activated<kind>(values[i] + to_compute(bias[i]));
    }
  });
}

/// The results of `channels` channels from `channel` on, at `count` positions: rows `stride` apart.
template <class T, class C>
static void depthwise_values(const ConvolutionProblem& p, const WindowAt<T>* windows, int64_t count, int64_t channel,
                             int64_t channels, const C* filters, C* to, int64_t stride) {
  int64_t done = 0;
  const T* bias = static_cast<const T*>(p.bias);
  if constexpr (std::is_same_v<T, C>) {
    const bool nine = p.y.taps == 3 && p.x.taps == 3;
    if (channels >= kVector<C> && (nine || p.y.taps * p.x.taps <= kFewTaps)) {
      done = channels / kVector<C> * kVector<C>;
      const Clamp<C> clamp(p.activation);
      (nine ? by_nine_taps<C> : by_few_taps<C>)(p, windows, count, channel, done, filters, clamp, to, stride);
      for (int64_t r = 0; r < count && !clamp.exact; ++r) {
        activate_values<C, C>(p.activation, to + r * stride, nullptr, 0, done, to + r * stride);
      }
    }
  }
  constexpr int64_t kChunk = 4 * kVector<C>;
  for (; done < channels; done += kChunk) {
    const int64_t chunk = channels - done < kChunk ? channels - done : kChunk;
    for (int64_t r = 0; r < count; ++r) {
      C sums[kChunk] = {};
      each_tap(p, windows[r], [&](int64_t tap, int64_t from) {
        const T* pixel = windows[r].corner + from + channel + done;
        const C* filter = filters + tap * p.groups + channel + done;
        if (chunk == kChunk) {
          for (int64_t c = 0; c < kChunk; ++c) sums[c] += to_compute(pixel[c]) * filter[c];
        } else {
          for (int64_t c = 0; c < chunk; ++c) sums[c] += to_compute(pixel[c]) * filter[c];
        }
      });
      const T* own = bias == nullptr ? nullptr : bias + channel + done;
      activate_values(p.activation, sums, own, 1, chunk, to + r * stride + done);
    }
  }
}

/// The runs of up to kTaps taps of a window, found once for all channels.
template <class T, class C>
struct TapRuns {
  static constexpr int kTaps = 25;
  Run<T> runs[kTaps * kTileColumns<C>];
  int ends[kTaps];
};

/// Adds to a row of kTileColumns lanes what `taps` taps of one channel meet, `offset` values after the runs.
template <class T, class C>
static inline void add_taps(const TapRuns<T, C>& found, int64_t taps, int64_t offset, int64_t step, const C* filter,
                            int64_t filter_step, C* to) {
  int r = 0;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const C factor = filter[tap * filter_step];
    for (; r < found.ends[tap]; ++r) {
      const Run<T>& run = found.runs[r];
      const T* from = run.from + offset;
      if (step == 1) {
        for (int lane = run.begin; lane < run.end; ++lane) to[lane] += factor * to_compute(from[lane]);
      } else {
        for (int lane = run.begin; lane < run.end; ++lane) to[lane] += factor * to_compute(from[lane * step]);
      }
    }
  }
}

#if defined(__AVX512F__)
template <>
inline void add_taps(const TapRuns<float, float>& found, int64_t taps, int64_t offset, int64_t step,
                     const float* filter, int64_t filter_step, float* to) {
  __m512 low = _mm512_loadu_ps(to), high = _mm512_loadu_ps(to + 16);
  const __m512 zero = _mm512_setzero_ps();
  int r = 0;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const __m512 factor = _mm512_set1_ps(filter[tap * filter_step]);
    for (; r < found.ends[tap]; ++r) {
      const Run<float>& run = found.runs[r];
      const float* from = run.from + offset;
      const uint32_t mask = mask_of(run);
      const auto low_mask = static_cast<__mmask16>(mask), high_mask = static_cast<__mmask16>(mask >> 16);
      if (run.begin < 16) low = _mm512_mask3_fmadd_ps(factor, loaded(zero, low_mask, from, step), low, low_mask);
      if (run.end > 16) {
        high = _mm512_mask3_fmadd_ps(factor, loaded(zero, high_mask, from + 16 * step, step), high, high_mask);
      }
    }
  }
  _mm512_storeu_ps(to, low);
  _mm512_storeu_ps(to + 16, high);
}
#endif

/// The results of `channels` channels at the positions [first, first + count), where channels come first: rows of
/// kTileColumns lanes. `image` points at the first of these channels, `filter` at its first tap and `bias` at its
/// value.
template <class T, class C>
static void depthwise_rows(const ConvolutionProblem& p, const T* image, int64_t first, int64_t count, int64_t channels,
                           const C* filter, const T* bias, C* to) {
  Segment segments[kTileColumns<C>];
  TapRuns<T, C> found;
  const int segment_count = segments_of(p, first, count, segments);
  const int64_t taps = p.y.taps * p.x.taps, plane = p.y.size * p.x.size;
  for (int64_t i = 0; i < channels * kTileColumns<C>; ++i) to[i] = C(0);
  for (int64_t tap = 0; tap < taps; tap += found.kTaps) {
    const int64_t some = taps - tap < found.kTaps ? taps - tap : found.kTaps;
    int end = 0;
    for (int64_t t = tap; t < tap + some; ++t) {
      end += runs_of(p, image, segments, segment_count, t / p.x.taps, t % p.x.taps, found.runs + end);
      found.ends[t - tap] = end;
    }
    for (int64_t c = 0; c < channels; ++c) {
      add_taps(found, some, c * plane, p.x.step, filter + tap * p.groups + c, p.groups, to + c * kTileColumns<C>);
    }
  }
  for (int64_t c = 0; c < channels; ++c, to += kTileColumns<C>) {
    activate_values(p.activation, to, bias == nullptr ? nullptr : bias + c, 0, kTileColumns<C>, to);
  }
}

}  // namespace visionops::VISIONOPS_ISA
