// Max pooling on a GPU: what max_pool2d.h says, with pointers into its memory and no wait for it.
#pragma once

#include "common/launch.cuh"
#include "pool/max_pool2d.h"

namespace visionops::VISIONOPS_ISA {

/// Offsets may be null.
void max_pool2d_cuda(const PoolShape& shape, const void* input, void* output, void* offsets, Stream stream);

/// Every element of grad_input collects from its windows, in their order: no atomics, the same bits in every run.
void max_pool2d_backward_cuda(const PoolShape& shape, const void* grad, const void* offsets, void* grad_input,
                              Stream stream);

void max_pool2d_taken_cuda(const PoolShape& shape, const void* input, const void* offsets, void* output, Stream stream);

void max_pool2d_indices_cuda(const PoolShape& shape, const void* offsets, int64_t* indices, Stream stream);

}  // namespace visionops::VISIONOPS_ISA
