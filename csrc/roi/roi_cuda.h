// RoIAlign and RoIPool on a GPU: what the CPU's headers say, with pointers into its memory and no wait for it.
//
// Gradients are summed by atomics, in whatever order threads come. Where they are to be deterministic they are
// gathered: each thread sums what RoIs give to its own value, in ascending order, so that every run gives the same
// bits.
#pragma once

#include "common/launch.cuh"
#include "roi/roi.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kMostLevels = 16;

/// A call as its kernels get it: by value, with its levels.
struct RoiCall {
  RoiProblem problem;  // without levels
  RoiLevel levels[kMostLevels];
};

RoiCall roi_call(const RoiProblem& problem);

/// Bytes of scratch on the device that a pass of RoIAlign needs, aligned to 256.
int64_t roi_align_cuda_workspace_bytes(const RoiCall& call);
int64_t roi_align_backward_cuda_workspace_bytes(const RoiCall& call, bool deterministic);

/// Queues the forward pass; out as roi_align.h has it. A RoI without an image gives zeros.
void roi_align_cuda(const RoiCall& call, void* workspace, void* out, Stream stream);

/// Queues the backward pass of all levels; it writes every value of grad_inputs.
void roi_align_backward_cuda(const RoiCall& call, const RoiResult& grad, bool deterministic, void* workspace,
                             void* const* grad_inputs, Stream stream);

/// Queues RoIAlign by maximum; out as roi_align_max.h has it.
void roi_align_max_cuda(const RoiCall& call, void* out, Stream stream);
int64_t roi_align_max_backward_cuda_workspace_bytes(const RoiCall& call, bool deterministic);
void roi_align_max_backward_cuda(const RoiCall& call, const RoiResult& grad, bool deterministic, void* workspace,
                                 void* grad_input, Stream stream);

/// The same of RoIPool; out and argmax, which may be null, as roi_pool.h has them.
void roi_pool_cuda(const RoiCall& call, void* out, uint32_t* argmax, Stream stream);
int64_t roi_pool_backward_cuda_workspace_bytes(const RoiCall& call, bool deterministic);
void roi_pool_backward_cuda(const RoiCall& call, const RoiResult& grad, const uint32_t* argmax, bool deterministic,
                            void* workspace, void* grad_input, Stream stream);

}  // namespace visionops::VISIONOPS_ISA
