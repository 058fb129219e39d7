// Unpooling on a GPU: what max_unpool2d.h says, with pointers into its memory and no wait for it.
#pragma once

#include "common/launch.cuh"
#include "pool/max_unpool2d.h"

namespace visionops::VISIONOPS_ISA {

/// Bytes of scratch on the device, aligned to 8.
int64_t max_unpool2d_cuda_scratch_bytes(const UnpoolShape& shape, bool adds);

/// With `adds`, which only second derivatives ask for, a thread sums a whole plane in order.
void max_unpool2d_cuda(const UnpoolShape& shape, const void* values, const int64_t* indices, bool adds, void* images,
                       void* scratch, Stream stream);

void max_unpool2d_taken_cuda(const UnpoolShape& shape, const void* images, const int64_t* indices, void* values,
                             Stream stream);

}  // namespace visionops::VISIONOPS_ISA
