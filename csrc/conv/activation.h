// The activations that may follow a convolution, and their derivatives.
#pragma once

#include <cmath>

#include "common/target.h"

namespace visionops {

/// The numbers are those of ACTIVATIONS in visionops/_codes.py.
enum class Activation : int { none, relu, leaky_relu, relu6, silu, hardswish, gelu };

constexpr int kLastActivation = static_cast<int>(Activation::gelu);

namespace VISIONOPS_ISA {

template <Activation activation>
struct ActivationTag {
  static constexpr Activation value = activation;
};

/// Calls f(ActivationTag<activation>{}).
template <class F>
static inline void visit_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::none: return f(ActivationTag<Activation::none>{});
    case Activation::relu: return f(ActivationTag<Activation::relu>{});
    case Activation::leaky_relu: return f(ActivationTag<Activation::leaky_relu>{});
    case Activation::relu6: return f(ActivationTag<Activation::relu6>{});
    case Activation::silu: return f(ActivationTag<Activation::silu>{});
    case Activation::hardswish: return f(ActivationTag<Activation::hardswish>{});
    case Activation::gelu: return f(ActivationTag<Activation::gelu>{});
  }
}

// Comparisons are written so that a NaN goes through.
template <Activation activation, class C>
VISIONOPS_HD inline C activate(C x) {
  if constexpr (activation == Activation::relu) {
    return x < 0 ? C(0) : x;
  } else if constexpr (activation == Activation::leaky_relu) {
    return x < 0 ? C(0.01) * x : x;
  } else if constexpr (activation == Activation::relu6) {
    return x < 0 ? C(0) : x > 6 ? C(6) : x;
  } else if constexpr (activation == Activation::silu) {
    return x / (1 + std::exp(-x));
  } else if constexpr (activation == Activation::hardswish) {
    const C gate = x + 3 < 0 ? C(0) : x + 3 > 6 ? C(6) : x + 3;
    return x * gate / 6;
  } else if constexpr (activation == Activation::gelu) {
    return x * (1 + std::erf(x * C(0.70710678118654752440))) / 2;
  } else {
    return x;
  }
}

/// The derivative at x; at a kink torch's.
template <Activation activation, class C>
VISIONOPS_HD inline C activation_slope(C x) {
  if constexpr (activation == Activation::relu) {
    return x > 0 ? C(1) : C(0);
  } else if constexpr (activation == Activation::leaky_relu) {
    return x > 0 ? C(1) : C(0.01);
  } else if constexpr (activation == Activation::relu6) {
    return x > 0 && x < 6 ? C(1) : C(0);
  } else if constexpr (activation == Activation::silu) {
    const C gate = 1 / (1 + std::exp(-x));
    return gate * (1 + x * (1 - gate));
  } else if constexpr (activation == Activation::hardswish) {
    return x <= -3 ? C(0) : x < 3 ? x / 3 + C(0.5) : C(1);
  } else if constexpr (activation == Activation::gelu) {
    const C below = (1 + std::erf(x * C(0.70710678118654752440))) / 2;
    return below + x * std::exp(-x * x / 2) * C(0.39894228040143267794);
  } else {
    return C(1);
  }
}

}  // namespace VISIONOPS_ISA
}  // namespace visionops
