// Depthwise windows of 3x3 where channels come first: vectors of positions along the lines of the image.
#pragma once

#include "conv/convolution.h"
#include "conv/tile.h"
#include "conv/turn.h"

namespace visionops::VISIONOPS_ISA {

// Lines that are shorter make too many stretches of a vector.
template <class C>
constexpr int64_t kLeastLine = kVector<C> / 4;
// Stretches of a vector: the end of a line, whole ones, and the beginning of one.
constexpr int kMostStretches = 5;

/// Whether the windows are of 3x3 neighbours, a pixel or two apart, and each has a pixel in its middle.
template <class C>
static bool are_along_lines(const ConvolutionProblem& p) {
  const auto near = [](const Axis& axis) {
    return axis.taps == 3 && axis.tap_step == 1 && (axis.first == 0 || axis.first == -1) &&
           axis.first + (axis.positions - 1) * axis.step + 1 < axis.size;
  };
  return near(p.y) && near(p.x) && p.x.step <= 2 && p.x.positions >= kLeastLine<C>;
}

/// Lanes of a vector of positions that meet values at even distances, and those of them whose taps to a side meet any.
template <class C>
struct Stretch {
  int64_t vector;
  int64_t left;  // what the tap to the left meets at lane 0 in the first channel, as a number of values
  bool begins;   // the vector
  bool inside;   // the taps above and below meet a pixel everywhere
  Lane<C> own[kVector<C>], before[kVector<C>], after[kVector<C>], above[kVector<C>], below[kVector<C>];
};

/// The stretches of the positions [first, first + count); returns how many.
template <class C>
static int stretches_of(const ConvolutionProblem& p, int64_t first, int64_t count, Stretch<C>* stretches) {
  const int64_t line = p.x.size;
  // From the end of a line of positions to the next one's beginning is a step like any other.
  const bool runs_on = p.y.step * line == p.x.positions * p.x.step;
  Position at(p.y, p.x, first);
  int found = 0;
  for (int64_t done = 0; done < count;) {
    Stretch<C>& s = stretches[found++];
    int64_t lane = done % kVector<C>, y = p.y.first + at.y * p.y.step, x = p.x.first + at.x * p.x.step;
    s = {};
    s.vector = done / kVector<C>;
    s.left = (at.image * p.groups * p.y.size + y + 1) * line + x - lane * p.x.step;
    s.begins = lane == 0;
    s.inside = true;
    const int64_t image = at.image, row = at.y;
    for (; lane < kVector<C> && done < count && at.image == image && (runs_on || at.y == row); ++lane, ++done) {
      y = p.y.first + at.y * p.y.step;
      x = p.x.first + at.x * p.x.step;
      s.own[lane] = -1;
      s.before[lane] = -(x >= 0);
      s.after[lane] = -(x + 2 < line);
      s.above[lane] = -(y >= 0);
      s.below[lane] = -(y + 2 < p.y.size);
      s.inside = s.inside && s.above[lane] && s.below[lane];
      at.advance(p.y, p.x);
    }
  }
  return found;
}

/// `value` in the lanes whose bits are set, elsewhere `other`.
template <class C>
static inline Vector<C> chosen(Vector<C> value, Vector<C> other, const Lane<C>* bits) {
  using Bits = Vector<Lane<C>>;
  Bits mask;
  memcpy(&mask, bits, sizeof mask);
  return (Vector<C>)(((Bits)value & mask) | ((Bits)other & ~mask));
}

/// A stretch's values of one channel. `left` is what the tap to the left meets at lane 0.
template <int kStep, class C>
static inline void stretch_values(const Stretch<C>& s, const C* left, int64_t line, const Vector<C> (&filter)[9],
                                  Vector<C> bias, Clamp<C> clamp, C* to) {
  constexpr std::make_integer_sequence<int, kVector<C>> kLanes;
  Vector<C> sums[3] = {{}, bias, {}};  // of the taps in a column
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const C* from = left + (i - 1) * line;
    Vector<C> met[3] = {load(from)};
    const Vector<C> next = load(from + kVector<C>);
    if (kStep == 1) {
      met[1] = across<1, 1, C>(met[0], next, kLanes);
      met[2] = across<2, 1, C>(met[0], next, kLanes);
    } else {
      met[1] = across<1, 2, C>(met[0], next, kLanes);
      met[0] = across<0, 2, C>(met[0], next, kLanes);
      met[2] = across<1, 1, C>(met[0], load(from + 2 * kVector<C>), kLanes);
    }
    const Lane<C>* bits = i == 0 ? s.above : s.below;
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      const Vector<C> more = sums[j] + met[j] * filter[i * 3 + j];
      sums[j] = i == 1 || s.inside ? more : chosen<C>(more, sums[j], bits);
    }
  }
  const Vector<C> none = {};
  Vector<C> value = clamp(chosen<C>(sums[0], none, s.before) + sums[1] + chosen<C>(sums[2], none, s.after));
  if (!s.begins) value = chosen<C>(value, load(to), s.own);
  store<C>(value, to);
}

/// The results of `channels` channels from `channel` on at the positions of some stretches: panels of (channels,
/// kTileColumns), `stride` apart. An activation that does not cut off is left to do.
template <int kStep, class C>
static void by_lines(const ConvolutionProblem& p, const Stretch<C>* stretches, int count, int64_t channel,
                     int64_t channels, const C* filters, C* to, int64_t stride) {
  constexpr int kRead = (kStep + 1) * kVector<C>;  // of a line
  const int64_t line = p.x.size, plane = p.y.size * line, all = p.batch * p.groups * plane;
  const auto* image = static_cast<const C*>(p.image);
  const auto* bias = static_cast<const C*>(p.bias);
  const Clamp<C> clamp(p.activation);
  for (int64_t c = 0; c < channels; ++c, to += kTileColumns<C>) {
    Vector<C> filter[9];
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) filter[tap] = Vector<C>{} + filters[tap * p.groups + channel + c];
    const Vector<C> shift = Vector<C>{} + (bias == nullptr ? C(0) : bias[channel + c]);
    for (int i = 0; i < count; ++i) {
      const Stretch<C>& s = stretches[i];
      const int64_t left = s.left + (channel + c) * plane;
      C* values = to + s.vector / 2 * stride + s.vector % 2 * kVector<C>;
      if (left >= line && left + line + kRead <= all) {
        stretch_values<kStep>(s, image + left, line, filter, shift, clamp, values);
        continue;
      }
      // Lanes that meet no pixel would read beyond the tensor.
      C near[3 * kRead];
      for (int64_t v = 0; v < 3 * kRead; ++v) {
        const int64_t at = left + (v / kRead - 1) * line + v % kRead;
        near[v] = at >= 0 && at < all ? image[at] : C(0);
      }
      stretch_values<kStep>(s, near + kRead, kRead, filter, shift, clamp, values);
    }
  }
}

}  // namespace visionops::VISIONOPS_ISA
