// An activation over a tensor, and the gradient through it.
#pragma once

#include "common/activation.h"
#include "common/dtype.h"

namespace visionops {

/// Replaces values[i] by its activation for i in [begin, end), of dtype, floating.
using Activate = void(void* values, DType dtype, Activation activation, int64_t begin, int64_t end);
VISIONOPS_KERNEL(Activate, activate)

/// Writes out[i] = grad[i] * (the activation's slope at value[i]) for i in [begin, end), all of dtype, floating. For
/// relu, leaky_relu and relu6 value may be the activation's result as well.
using ActivationBackward = void(const void* grad, const void* value, DType dtype, Activation activation, void* out,
                                int64_t begin, int64_t end);
VISIONOPS_KERNEL(ActivationBackward, activation_backward)

}  // namespace visionops
