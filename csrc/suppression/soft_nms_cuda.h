// Soft non-maximum suppression on a GPU: what soft_nms.h says, with pointers into its memory and no wait for it.
#pragma once

#include "common/launch.cuh"
#include "suppression/soft_nms.h"

namespace visionops::VISIONOPS_ISA {

/// Bytes of scratch on the device, aligned to 256.
int64_t soft_nms_cuda_workspace_bytes(const SoftNmsProblem& problem);

/// Queues the work: indices (images, max_output) by descending decayed score, filled up with -1, those scores, in the
/// dtype of the scores and filled up with 0, and counts (images).
///
/// Limits: fewer than 2^31 boxes in all. A class of an image, or without classes an image, is one block's work.
void soft_nms_cuda(const SoftNmsProblem& problem, void* workspace, int64_t* indices, void* scores, int64_t* counts,
                   Stream stream);

}  // namespace visionops::VISIONOPS_ISA
