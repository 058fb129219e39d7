// What every operation on RoIs is given: the maps, the boxes, and how a box is divided.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace visionops {

/// One map of a feature pyramid, or the only one.
struct RoiLevel {
  const void* input;  // (batch, channels, height, width), or (batch, height, width, channels) if channels_last
  int64_t height, width;
  double spatial_scale;  // pixels of the map a pixel of the boxes' image
};

struct RoiProblem {
  const RoiLevel* levels;
  int64_t level_count;
  int64_t batch, channels;
  DType dtype;  // of the maps and of results, floating
  bool channels_last;
  const void* boxes;  // (rois, 5): index of the image, x1, y1, x2, y2; contiguous
  DType boxes_dtype;  // floating
  int64_t rois;
  int64_t pooled_height, pooled_width;  // bins, more than 0
  int64_t sampling_ratio;               // samples a bin has along an axis; adaptive if not positive
  bool aligned;
  // Of several levels, a box is pooled from the largest k with area >= canonical_size^2 4^(k - canonical_level), at
  // least and at most those there are; the first is min_level.
  int64_t canonical_size = 224, canonical_level = 4, min_level = 2;
};

/// One sample along an axis: between pixels `low` and `high`, by `fraction` of the way.
struct RoiSample {
  int32_t low, high;
  double fraction;
};

/// A result (rois, channels, pooled_height, pooled_width) or its gradient, of the maps' dtype.
struct RoiResult {
  const void* data;
  int64_t strides[4];  // in elements, any
};

}  // namespace visionops
