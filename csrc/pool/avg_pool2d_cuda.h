// Average pooling on a GPU: what avg_pool2d.h says, with pointers into its memory and no wait for it.
#pragma once

#include "common/launch.cuh"
#include "pool/avg_pool2d.h"

namespace visionops::VISIONOPS_ISA {

void avg_pool2d_cuda(const PoolShape& shape, const PoolDivisor& divisor, const void* input, void* output,
                     Stream stream);

void avg_pool2d_backward_cuda(const PoolShape& shape, const PoolDivisor& divisor, const void* grad, void* grad_input,
                              Stream stream);

}  // namespace visionops::VISIONOPS_ISA
