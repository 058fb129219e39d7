// The gradient through an activation on the CPU: one pass.
#include "conv/activation_backward.h"

namespace visionops::VISIONOPS_ISA {

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
