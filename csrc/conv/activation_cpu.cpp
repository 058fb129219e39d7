// An activation over a tensor, and the gradient through it, on the CPU: one pass each.
#include "conv/activation.h"

namespace visionops::VISIONOPS_ISA {

void activate(void* values, DType dtype, Activation activation, int64_t begin, int64_t end) {
  visit_floating(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    auto* at = static_cast<T*>(values);
    visit_activation(activation, [&](auto tag) {
      for (int64_t i = begin; i < end; ++i) {
        at[i] = from_compute<T>(activated<decltype(tag)::activation>(to_compute(at[i])));
      }
    });
  });
}

void activation_backward(const void* grad, const void* value, DType dtype, Activation activation, void* out,
                         int64_t begin, int64_t end) {
  visit_floating(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* from = static_cast<const T*>(grad);
    const auto* at = static_cast<const T*>(value);
    auto* to = static_cast<T*>(out);
    visit_activation(activation, [&](auto tag) {
      for (int64_t i = begin; i < end; ++i) {
        to[i] = from_compute<T>(to_compute(from[i]) * slope<decltype(tag)::activation>(to_compute(at[i])));
      }
    });
  });
}

}  // namespace visionops::VISIONOPS_ISA
