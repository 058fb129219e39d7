// Greedy non-maximum suppression on a GPU: what nms.h says, with pointers into its memory and no wait for it.
#pragma once

#include "common/launch.cuh"
#include "suppression/nms.h"

namespace visionops::VISIONOPS_ISA {

/// Bytes of scratch on the device, aligned to 256. It grows with the number of boxes and with nothing else.
int64_t nms_cuda_workspace_bytes(const NmsProblem& problem);

/// Queues the work: indices (images, max_output) by descending score, filled up with -1, and counts (images).
///
/// Limits: fewer than 2^31 boxes in all. A class of an image is one block's work, so that few large classes leave most
/// of a GPU idle; boxes without classes are shared among all of it.
void nms_cuda(const NmsProblem& problem, void* workspace, int64_t* indices, int64_t* counts, Stream stream);

}  // namespace visionops::VISIONOPS_ISA
