// RoIAlign by maximum: the greatest of a bin's samples, those on no map being 0.
#pragma once

#include "roi/roi.h"

namespace visionops {

/// The samples of one RoI along one axis.
struct RoiAxisSamples {
  const int32_t* begin;      // those of bin i that are on the map are [begin[i], begin[i + 1])
  const RoiSample* samples;  // ascending numbers
  double grid;               // how many a bin has in all
};

struct RoiSamples {
  int64_t map;  // level * batch + image; -1: the RoI is empty, zeros
  RoiAxisSamples y, x;
};

struct RoiSamplesTable {
  const RoiSamples* rois;
  const int64_t* order;  // RoIs by map, then by first row, then ascending; the empty ones last
  const int64_t* begin;  // those of map m are [begin[m], begin[m + 1]) of the order
};

using RoiAlignMaxItems = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiAlignMaxItems, roi_align_max_items)

/// Writes the items [begin, end) of out, (rois, channels, pooled_height, pooled_width), channels last if the maps are.
/// A NaN is greater than every number; a bin without samples is 0.
using RoiAlignMax = void(const RoiProblem& problem, const RoiSamplesTable& table, void* out, int64_t begin,
                         int64_t end);
VISIONOPS_KERNEL(RoiAlignMax, roi_align_max)

using RoiAlignMaxBackwardItems = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiAlignMaxBackwardItems, roi_align_max_backward_items)

/// Bytes of scratch that a call needs, aligned to 64.
using RoiAlignMaxBackwardScratchBytes = int64_t(const RoiProblem& problem);
VISIONOPS_KERNEL(RoiAlignMaxBackwardScratchBytes, roi_align_max_backward_scratch_bytes)

/// Writes the items [begin, end) of grad_input, laid out as the map. A bin's gradient goes to the pixels of its first
/// greatest sample, row by row; to none if that is one on no map, which counts as the first.
using RoiAlignMaxBackward = void(const RoiProblem& problem, const RoiSamplesTable& table, const RoiResult& grad,
                                 void* grad_input, void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(RoiAlignMaxBackward, roi_align_max_backward)

}  // namespace visionops
