// Matrix non-maximum suppression of segments of boxes or masks: each decays by its worst overlap with a better one, the
// less the worse that one is off itself.
//
// A segment has two passes over its pairs, each of which recomputes their IoU: the first finds the largest IoU of each
// with a better one, the second the factor, which asks for that of all better ones. Within a pass the blocks of a
// segment are independent.
#pragma once

#include "boxes/mask_iou.h"
#include "suppression/segments.h"

namespace visionops {

enum class MatrixNmsKernel : int32_t { gaussian, linear };

struct MatrixNmsProblem : Candidates {
  MatrixNmsKernel kernel;
  double sigma;       // gaussian
  PackedMasks masks;  // (images, n), where boxes is null
};

/// Boxes or masks of a segment that are one item of a pass.
constexpr int64_t kMatrixNmsBlock = 16;

/// How many boxes or masks segment `segment` has.
using SegmentSize = int64_t(const MatrixNmsProblem& problem, void* workspace, int64_t segment);
VISIONOPS_KERNEL(SegmentSize, segment_size)

/// All there is to do for segments [begin, end), but for those of more than `most` boxes or masks.
using MatrixNmsSegments = void(const MatrixNmsProblem& problem, void* workspace, int64_t most, int64_t begin,
                               int64_t end);
VISIONOPS_KERNEL(MatrixNmsSegments, matrix_nms_segments)

/// Of one segment: prepares its passes. Then each of them over the blocks [begin, end), in any order.
using MatrixNmsGather = void(const MatrixNmsProblem& problem, void* workspace, int64_t segment);
VISIONOPS_KERNEL(MatrixNmsGather, matrix_nms_gather)

using MatrixNmsPass = void(const MatrixNmsProblem& problem, void* workspace, int64_t segment, int64_t begin,
                           int64_t end);
VISIONOPS_KERNEL(MatrixNmsPass, matrix_nms_overlap)
VISIONOPS_KERNEL(MatrixNmsPass, matrix_nms_decay)

}  // namespace visionops
