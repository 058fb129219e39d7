// The first stage of every suppression: boxes ranked by score, in segments of one class in one image.
//
// A call allocates a workspace, ranks, counts the segments, and hands them to its own stage; so that whoever runs it
// can spread the ranking over images and the rest over segments.
#pragma once

#include "common/dtype.h"

namespace visionops {

struct Candidates {
  const void* boxes;       // (images, n, 4) xyxy, contiguous, floating or integer; null where masks stand for them
  const void* scores;      // (images, n), contiguous, floating
  const int64_t* classes;  // (images, n), contiguous, any values; null if all are of one class
  DType boxes_dtype, scores_dtype;
  int64_t images, n;       // n < 2^31
  double score_threshold;  // rounded to the type that the scores compute in; read if has_score_threshold
  bool has_score_threshold;
  int64_t max_output;  // per image over all classes; n or more for no limit
  int pixel_offset;
  bool rescored;  // scores decay: negative ones take no part, and the results are ranked anew
};

/// Bytes of scratch that the stages share, aligned to 64. It holds nothing between calls.
using WorkspaceBytes = int64_t(const Candidates& candidates);
VISIONOPS_KERNEL(WorkspaceBytes, workspace_bytes)

/// Orders the boxes of images [begin, end): by descending score (-0 equals +0), ties by lower index, without those
/// that have a NaN or a score not above the threshold; then groups them by class.
using RankCandidates = void(const Candidates& candidates, void* workspace, int64_t begin, int64_t end);
VISIONOPS_KERNEL(RankCandidates, rank_candidates)

/// How many segments the images have, once all are ranked. Not thread-safe.
using CountSegments = int64_t(const Candidates& candidates, void* workspace);
VISIONOPS_KERNEL(CountSegments, count_segments)

/// Of rescored boxes, once all scores have decayed: ranks those of images [begin, end) that are left.
using RankDecayed = void(const Candidates& candidates, void* workspace, int64_t begin, int64_t end);
VISIONOPS_KERNEL(RankDecayed, rank_decayed)

/// How many boxes image `image` keeps, at most max_output.
using KeptCount = int64_t(const Candidates& candidates, const void* workspace, int64_t image);
VISIONOPS_KERNEL(KeptCount, kept_count)

/// Writes the kept_count indices of image `image` by descending score and, where rescored, their scores beside them,
/// in the dtype of the scores.
using CollectKept = void(const Candidates& candidates, const void* workspace, int64_t image, int64_t* indices,
                         void* scores);
VISIONOPS_KERNEL(CollectKept, collect_kept)

}  // namespace visionops
