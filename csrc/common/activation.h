// The activations that may follow a norm or a convolution: their values and slopes, in float and double.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/exponential.h"

namespace visionops {

/// The numbers are those of ACTIVATIONS in visionops/_codes.py.
enum class Activation : int { none, relu, leaky_relu, relu6, silu, hardswish, gelu };

constexpr int kLastActivation = static_cast<int>(Activation::gelu);

/// Whether the slope has two values, so that one bit an element tells it.
constexpr bool is_kinked(Activation a) {
  return a == Activation::relu || a == Activation::leaky_relu || a == Activation::relu6;
}

namespace VISIONOPS_ISA {

template <Activation a>
struct ActivationTag {
  static constexpr Activation activation = a;
};

/// Calls f(ActivationTag<a>{}) with the activation that `a` names.
template <class F>
inline auto visit_activation(Activation a, F&& f) {
  switch (a) {
    case Activation::relu: return f(ActivationTag<Activation::relu>{});
    case Activation::leaky_relu: return f(ActivationTag<Activation::leaky_relu>{});
    case Activation::relu6: return f(ActivationTag<Activation::relu6>{});
    case Activation::silu: return f(ActivationTag<Activation::silu>{});
    case Activation::hardswish: return f(ActivationTag<Activation::hardswish>{});
    case Activation::gelu: return f(ActivationTag<Activation::gelu>{});
    default: return f(ActivationTag<Activation::none>{});
  }
}

/// `value` within [low, high]; a NaN stays one.
template <class C>
inline C within(C value, C low, C high) {
  const C raised = value < low ? low : value;
  return raised > high ? high : raised;
}

/// Values that an activation leaves as they are; others become the nearer bound.
template <class C>
struct Bounds {
  C low, high;

  explicit Bounds(Activation a)
      : low(a == Activation::relu || a == Activation::relu6 ? C(0) : -std::numeric_limits<C>::infinity()),
        high(a == Activation::relu6 ? C(6) : std::numeric_limits<C>::infinity()) {}
};

/// Whether its bounds are all of an activation.
constexpr bool is_bounds(Activation a) {
  return a == Activation::none || a == Activation::relu || a == Activation::relu6;
}

template <class C>
inline C sigmoid(C x) {
  return 1 / (1 + exponential(-x));
}

/// The density of the normal distribution and its integral from -infinity.
template <class C>
struct Normal {
  C density, below;
};

inline Normal<double> normal_at(double x) {
  return {std::exp(-x * x / 2) * 0.3989422804014327, std::erfc(-x * 0.7071067811865476) / 2};
}

inline Normal<float> normal_at(float x) {
  const float exponent = exponential(x * x * -0.5f);
  // Fitted to erfc(u) exp(u^2) in t = 1 / (1 + 0.39 u): off by 1e-8 at most after the product with exp(-u^2).
  const float u = 0.70710678f * (x < 0 ? -x : x);
  const float t = 1 / (1 + 0.39f * u);
  float series = -0.22753777f;
  series = series * t + 0.88666705f;
  series = series * t - 0.63540470f;
  series = series * t + 0.64956303f;
  series = series * t + 0.09138694f;
  series = series * t + 0.23532546f;
  const float beyond = 0.5f * exponent * series * t;
  return {exponent * 0.39894228f, x < 0 ? beyond : 1 - beyond};
}

template <Activation a, class C>
inline C activated(C x) {
  if constexpr (a == Activation::relu) return x < 0 ? C(0) : x;
  if constexpr (a == Activation::leaky_relu) return x < 0 ? C(0.01) * x : x;
  if constexpr (a == Activation::relu6) return within(x, C(0), C(6));
  if constexpr (a == Activation::silu) return x * sigmoid(x);
  if constexpr (a == Activation::hardswish) return x * within(x + 3, C(0), C(6)) / 6;
  if constexpr (a == Activation::gelu) return x * normal_at(x).below;
  return x;
}

/// Where the slope of a kinked activation is 1; elsewhere it is slope_elsewhere.
template <Activation a, class C>
inline bool is_steep(C x) {
  return a == Activation::relu6 ? x > 0 && x < 6 : x > 0;
}

constexpr double slope_elsewhere(Activation a) { return a == Activation::leaky_relu ? 0.01 : 0.0; }

/// The derivative; at a kink torch's.
template <Activation a, class C>
inline C slope(C x) {
  if constexpr (is_kinked(a)) return is_steep<a>(x) ? C(1) : C(slope_elsewhere(a));
  if constexpr (a == Activation::silu) {
    const C s = sigmoid(x);
    return s * (1 + x * (1 - s));
  }
  if constexpr (a == Activation::hardswish) return x <= -3 ? C(0) : x < 3 ? x / 3 + C(0.5) : C(1);
  if constexpr (a == Activation::gelu) {
    const Normal<C> normal = normal_at(x);
    return normal.below + x * normal.density;
  }
  return C(1);
}

}  // namespace VISIONOPS_ISA
}  // namespace visionops
