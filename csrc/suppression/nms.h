// Greedy non-maximum suppression, per image and class; the decision's arithmetic is in common/box.h.
//
// A call has three stages, so that whoever runs it can spread the first over images and the second over segments
// (the boxes of one class in one image): nms_rank, nms_suppress, nms_collect.
#pragma once

#include "common/dtype.h"

namespace visionops {

struct NmsProblem {
  const void* boxes;       // (images, n, 4) xyxy, contiguous, floating or integer
  const void* scores;      // (images, n), contiguous, floating
  const int64_t* classes;  // (images, n), contiguous, any values; null if all boxes are of one class
  DType boxes_dtype, scores_dtype;
  int64_t images, n;       // n < 2^31
  double iou_threshold;    // rounded to the type that the boxes compute in
  double score_threshold;  // rounded to the type that the scores compute in; read if has_score_threshold
  bool has_score_threshold;
  int64_t max_output;  // per image over all classes; n or more for no limit
  int pixel_offset;
};

/// Bytes of scratch that the stages share, aligned to 64. It holds nothing between calls.
using NmsWorkspaceBytes = int64_t(const NmsProblem& problem);
VISIONOPS_KERNEL(NmsWorkspaceBytes, nms_workspace_bytes)

/// Orders the boxes of images [begin, end): by descending score (-0 equals +0), ties by lower index, without those
/// that have a NaN or a score not above the threshold; then groups them by class.
using NmsRank = void(const NmsProblem& problem, void* workspace, int64_t begin, int64_t end);
VISIONOPS_KERNEL(NmsRank, nms_rank)

/// How many segments the images have, once all are ranked. Not thread-safe.
using NmsSegments = int64_t(const NmsProblem& problem, void* workspace);
VISIONOPS_KERNEL(NmsSegments, nms_segments)

/// Decides which boxes of segments [begin, end) stay.
using NmsSuppress = void(const NmsProblem& problem, void* workspace, int64_t begin, int64_t end);
VISIONOPS_KERNEL(NmsSuppress, nms_suppress)

/// How many boxes image `image` keeps, at most max_output.
using NmsCount = int64_t(const NmsProblem& problem, const void* workspace, int64_t image);
VISIONOPS_KERNEL(NmsCount, nms_count)

/// Writes the nms_count indices of image `image` by descending score.
using NmsCollect = void(const NmsProblem& problem, const void* workspace, int64_t image, int64_t* indices);
VISIONOPS_KERNEL(NmsCollect, nms_collect)

}  // namespace visionops
