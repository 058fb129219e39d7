// Adaptive pooling on a GPU: what adaptive_pool2d.h says, with pointers into its memory and no wait for it.
#pragma once

#include "common/launch.cuh"
#include "pool/adaptive_pool2d.h"

namespace visionops::VISIONOPS_ISA {

void adaptive_avg_pool2d_cuda(const AdaptiveShape& shape, const void* input, void* output, Stream stream);

void adaptive_avg_pool2d_backward_cuda(const AdaptiveShape& shape, const void* grad, void* grad_input, Stream stream);

void adaptive_max_pool2d_cuda(const AdaptiveShape& shape, const void* input, void* output, int64_t* indices,
                              Stream stream);

/// Indices are those of the bins' maxima; of others nothing is collected.
void adaptive_max_pool2d_backward_cuda(const AdaptiveShape& shape, const void* grad, const int64_t* indices,
                                       void* grad_input, Stream stream);

}  // namespace visionops::VISIONOPS_ISA
