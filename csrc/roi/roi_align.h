// RoIAlign by mean: each bin is a weighted sum of pixels, and the weights are a product of one per row and column.
//
// out = Y F X^T for a RoI's window F of the map, with Y (pooled_height x rows) and X (pooled_width x columns) sparse.
// They are computed once, by roi_weights.h, in time and space that grow with rows + columns and not with samples.
#pragma once

#include "roi/roi.h"

namespace visionops {

/// The weights of one RoI along one axis, compressed by bin (forward) or by line, row or column (backward).
struct RoiAxisWeights {
  const int32_t* lines;  // pixels with a weight, ascending
  const int32_t* begin;  // entries of bin or line i are [begin[i], begin[i + 1])
  const int32_t* other;  // of an entry: where its line stands in `lines` (by bin), or its bin (by line)
  const void* weights;   // of Compute<dtype>, none 0
  int32_t line_count;
};

/// A RoI without lines on one axis or both is empty: zeros, and nothing of the map is read.
struct RoiWeights {
  int64_t map;  // level * batch + image
  RoiAxisWeights y, x;
};

/// The weights of all RoIs.
struct RoiTable {
  const RoiWeights* rois;
  const int64_t* order;      // RoIs by map, then by first row, then ascending; the empty ones last
  const int64_t* begin;      // those of map m are [begin[m], begin[m + 1]) of the order
  const int64_t* row_order;  // rows of bins, k pooled_height + p, likewise: to go forward, if channels are last
  int64_t most_entries;      // of an axis of a RoI
  int64_t widest;            // columns from the first to the last of a RoI
};

/// Work items of the forward pass.
using RoiAlignItems = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiAlignItems, roi_align_items)

/// Bytes of scratch that a call needs, aligned to 64.
using RoiAlignScratchBytes = int64_t(const RoiProblem& problem, const RoiTable& table);
VISIONOPS_KERNEL(RoiAlignScratchBytes, roi_align_scratch_bytes)

/// Writes the items [begin, end) of out, (rois, channels, pooled_height, pooled_width), channels last if the maps are.
/// The table is by bin.
using RoiAlign = void(const RoiProblem& problem, const RoiTable& table, void* out, void* scratch, int64_t begin,
                      int64_t end);
VISIONOPS_KERNEL(RoiAlign, roi_align)

/// Work items of the backward pass: parts of the maps' gradients, each written by one call.
using RoiAlignBackwardItems = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiAlignBackwardItems, roi_align_backward_items)

using RoiAlignBackwardScratchBytes = int64_t(const RoiProblem& problem, const RoiTable& table);
VISIONOPS_KERNEL(RoiAlignBackwardScratchBytes, roi_align_backward_scratch_bytes)

/// Writes the items [begin, end) of the maps' gradients, one per level, laid out as the maps (whose `input` is not
/// read). The table is by line. Sums run over RoIs in the table's order, whatever the ranges.
using RoiAlignBackward = void(const RoiProblem& problem, const RoiTable& table, const RoiResult& grad,
                              void* const* grad_inputs, void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(RoiAlignBackward, roi_align_backward)

}  // namespace visionops
