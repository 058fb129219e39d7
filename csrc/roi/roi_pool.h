// RoIPool: the maximum of the pixels of each bin, which are whole ones.
#pragma once

#include "roi/roi.h"

namespace visionops {

/// In an argmax, for a bin without pixels. Else it has the number of the bin's first greatest pixel in its plane,
/// y * width + x: maps have fewer pixels than this.
constexpr uint32_t kNoPixel = 0xffffffff;

/// The pixels of one RoI's bins, computed once by roi_bins.h.
struct RoiBins {
  int64_t map;                               // of the batch; -1: the RoI is empty, zeros
  const int32_t *row_begin, *row_end;        // (pooled_height) each
  const int32_t *column_begin, *column_end;  // (pooled_width) each
  int64_t lines = 0, lines_end = 0;          // of the table's lines those that the next RoI is the first to read
};

struct RoiBinsTable {
  const RoiBins* rois;
  const int64_t* order;      // RoIs by map, then by first row, then ascending; the empty ones last
  const int64_t* begin;      // those of map m are [begin[m], begin[m + 1]) of the order
  const int64_t* row_order;  // rows of bins, k pooled_height + p, likewise: to go forward, if channels are last
  const int64_t* lines;      // of cache, by a pixel of each in its plane: to go forward, if channels are first
};

using RoiPoolItems = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiPoolItems, roi_pool_items)

/// Bytes of scratch that a call needs, aligned to 64.
using RoiPoolScratchBytes = int64_t(const RoiProblem& problem, bool with_argmax);
VISIONOPS_KERNEL(RoiPoolScratchBytes, roi_pool_scratch_bytes)

/// Writes the items [begin, end) of out, (rois, channels, pooled_height, pooled_width), channels last if the map is,
/// and of argmax, laid out alike, unless null. A NaN is greater than every number; a bin without pixels is 0.
using RoiPool = void(const RoiProblem& problem, const RoiBinsTable& table, void* out, uint32_t* argmax, void* scratch,
                     int64_t begin, int64_t end);
VISIONOPS_KERNEL(RoiPool, roi_pool)

using RoiPoolBackwardItems = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiPoolBackwardItems, roi_pool_backward_items)

using RoiPoolBackwardScratchBytes = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiPoolBackwardScratchBytes, roi_pool_backward_scratch_bytes)

/// Writes the items [begin, end) of grad_input, channels last as argmax. A bin's gradient goes to the pixel that argmax
/// names; where that is none of the bin's, which may be any number, to it or nowhere.
using RoiPoolBackward = void(const RoiProblem& problem, const RoiBinsTable& table, const RoiResult& grad,
                             const uint32_t* argmax, void* grad_input, void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(RoiPoolBackward, roi_pool_backward)

}  // namespace visionops
