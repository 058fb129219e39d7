// A call on RoIs as its backends share it: its tensors, checked for what memory safety needs, and its schemas.
#pragma once

#include <string>
#include <vector>

#include "common/stable_torch.h"
#include "roi/roi.h"
#include "roi/roi_align.h"
#include "roi/roi_pool.h"

namespace visionops {

// The schemas of the backend whose torch operations end in this name. `deterministic`: the gradient is the same bits in
// every run, which on the CPU it is in any case.
inline std::string roi_align_schema(const std::string& backend) {
  return "roi_align_" + backend +
         "(Tensor input, Tensor boxes, SymInt pooled_height, SymInt pooled_width, float spatial_scale, "
         "int sampling_ratio, bool aligned) -> Tensor";
}

inline std::string roi_align_backward_schema(const std::string& backend) {
  return "roi_align_backward_" + backend +
         "(Tensor grad, Tensor boxes, SymInt batch, SymInt height, SymInt width, float spatial_scale, "
         "int sampling_ratio, bool aligned, bool channels_last, bool deterministic) -> Tensor";
}

inline std::string roi_align_max_schema(const std::string& backend) {
  return "roi_align_max_" + backend +
         "(Tensor input, Tensor boxes, SymInt pooled_height, SymInt pooled_width, float spatial_scale, "
         "int sampling_ratio, bool aligned) -> Tensor";
}

inline std::string roi_align_max_backward_schema(const std::string& backend) {
  return "roi_align_max_backward_" + backend +
         "(Tensor grad, Tensor input, Tensor boxes, float spatial_scale, int sampling_ratio, bool aligned, "
         "bool deterministic) -> Tensor";
}

inline std::string multiscale_roi_align_schema(const std::string& backend) {
  return "multiscale_roi_align_" + backend +
         "(Tensor[] inputs, Tensor boxes, SymInt pooled_height, SymInt pooled_width, float[] spatial_scales, "
         "int sampling_ratio, bool aligned, int canonical_size, int canonical_level, int min_level) -> Tensor";
}

inline std::string multiscale_roi_align_backward_schema(const std::string& backend) {
  return "multiscale_roi_align_backward_" + backend +
         "(Tensor grad, Tensor boxes, SymInt batch, SymInt[] heights, SymInt[] widths, float[] spatial_scales, "
         "int sampling_ratio, bool aligned, int canonical_size, int canonical_level, int min_level, "
         "bool channels_last, bool deterministic) -> Tensor[]";
}

inline std::string roi_pool_schema(const std::string& backend) {
  return "roi_pool_" + backend +
         "(Tensor input, Tensor boxes, SymInt pooled_height, SymInt pooled_width, float spatial_scale) -> Tensor";
}

inline std::string roi_pool_with_argmax_schema(const std::string& backend) {
  return "roi_pool_with_argmax_" + backend +
         "(Tensor input, Tensor boxes, SymInt pooled_height, SymInt pooled_width, float spatial_scale) "
         "-> (Tensor, Tensor)";
}

inline std::string roi_pool_backward_schema(const std::string& backend) {
  return "roi_pool_backward_" + backend +
         "(Tensor grad, Tensor argmax, Tensor boxes, SymInt batch, SymInt height, SymInt width, float spatial_scale, "
         "bool deterministic) -> Tensor";
}

/// How boxes divide a map.
struct RoiOptions {
  int64_t pooled_height, pooled_width;
  double spatial_scale;
  int64_t sampling_ratio = 0;
  bool aligned = false;
};

/// How boxes choose among the maps of a pyramid.
struct RoiPyramid {
  int64_t canonical_size, canonical_level, min_level;
};

/// The tensors of a call and the problem that points into them.
struct RoiInput {
  /// Of one map.
  RoiInput(const Tensor& map, const Tensor& boxes, const RoiOptions& options) : RoiInput(boxes, options) {
    check(map.dim() == 4, "input: expected shape (B, C, H, W)");
    check(is_floating(dtype_of(map)), "input: expected a floating dtype");
    input.push_back(as_dense_image(map));
    add_level(input.back().const_data_ptr(), map.size(2), map.size(3), options.spatial_scale);
    set_maps(map.size(0), map.size(1), dtype_of(map), is_channels_last(input.back()));
  }

  /// Of the gradient of one map of this batch, height and width.
  RoiInput(const Tensor& grad, const Tensor& boxes, int64_t batch, int64_t height, int64_t width,
           const RoiOptions& options, bool channels_last)
      : RoiInput(boxes, options) {
    check(grad.dim() == 4 && grad.size(0) == boxes.size(0), "grad: expected the shape of the result");
    check(is_floating(dtype_of(grad)), "grad: expected a floating dtype");
    check(batch >= 0 && height >= 0 && width >= 0, "batch, height, width: expected 0 or more");
    add_level(nullptr, height, width, options.spatial_scale);
    set_maps(batch, grad.size(1), dtype_of(grad), channels_last);
  }

  /// Of the maps of a pyramid, all laid out as the first.
  RoiInput(const std::vector<Tensor>& maps, const Tensor& boxes, const std::vector<double>& scales,
           const RoiOptions& options, const RoiPyramid& pyramid)
      : RoiInput(boxes, options) {
    check(!maps.empty() && maps.size() == scales.size(), "inputs: expected one or more, and a scale for each");
    const Tensor& first = maps[0];
    check(first.dim() == 4 && is_floating(dtype_of(first)), "inputs: expected floating (B, C, H, W)");
    const bool channels_last = is_channels_last(as_dense_image(first));
    for (size_t l = 0; l < maps.size(); ++l) {
      const Tensor& map = maps[l];
      check(map.dim() == 4 && map.size(0) == first.size(0) && map.size(1) == first.size(1) &&
                map.scalar_type() == first.scalar_type(),
            "inputs: expected the batch, channels and dtype of the first");
      input.push_back(as_dense_image(map));
      // A map of one pixel or channel is dense in both layouts.
      check(is_channels_last(input.back()) == channels_last || map.size(1) == 1 || map.size(2) * map.size(3) <= 1 ||
                map.numel() == 0,
            "inputs: expected the memory format of the first");
      add_level(input.back().const_data_ptr(), map.size(2), map.size(3), scales[l]);
    }
    set_maps(first.size(0), first.size(1), dtype_of(first), channels_last);
    set_pyramid(pyramid);
  }

  /// Of the gradients of such maps.
  RoiInput(const Tensor& grad, const Tensor& boxes, int64_t batch, const std::vector<int64_t>& heights,
           const std::vector<int64_t>& widths, const std::vector<double>& scales, const RoiOptions& options,
           const RoiPyramid& pyramid, bool channels_last)
      : RoiInput(boxes, options) {
    check(grad.dim() == 4 && is_floating(dtype_of(grad)), "grad: expected a floating gradient of the result");
    check(!heights.empty() && heights.size() == scales.size() && widths.size() == scales.size(),
          "heights, widths: expected one for each scale");
    for (size_t l = 0; l < scales.size(); ++l) {
      check(batch >= 0 && heights[l] >= 0 && widths[l] >= 0, "batch, heights, widths: expected 0 or more");
      add_level(nullptr, heights[l], widths[l], scales[l]);
    }
    set_maps(batch, grad.size(1), dtype_of(grad), channels_last);
    set_pyramid(pyramid);
  }

  RoiInput(const RoiInput&) = delete;
  RoiInput& operator=(const RoiInput&) = delete;

  std::vector<Tensor> input;
  Tensor boxes;
  std::vector<RoiLevel> levels;
  RoiProblem problem;

 private:
  RoiInput(const Tensor& all_boxes, const RoiOptions& options) : boxes(as_contiguous(all_boxes)) {
    check(boxes.dim() == 2 && boxes.size(1) == 5, "boxes: expected shape (K, 5)");
    check(is_floating(dtype_of(boxes)), "boxes: expected a floating dtype");
    check(options.pooled_height > 0 && options.pooled_width > 0, "output_size: expected 1 or more");
    problem.boxes = boxes.const_data_ptr();
    problem.boxes_dtype = dtype_of(boxes);
    problem.rois = boxes.size(0);
    problem.pooled_height = options.pooled_height;
    problem.pooled_width = options.pooled_width;
    problem.sampling_ratio = options.sampling_ratio;
    problem.aligned = options.aligned;
  }

  void add_level(const void* data, int64_t height, int64_t width, double spatial_scale) {
    constexpr int64_t kMost = int64_t{1} << 30;
    check(height < kMost && width < kMost, "input: expected height and width below 2^30");
    levels.push_back({data, height, width, spatial_scale});
  }

  void set_pyramid(const RoiPyramid& pyramid) {
    problem.canonical_size = pyramid.canonical_size;
    problem.canonical_level = pyramid.canonical_level;
    problem.min_level = pyramid.min_level;
  }

  void set_maps(int64_t batch, int64_t channels, DType dtype, bool channels_last) {
    problem.levels = levels.data();
    problem.level_count = static_cast<int64_t>(levels.size());
    problem.batch = batch;
    problem.channels = channels;
    problem.dtype = dtype;
    problem.channels_last = channels_last;
  }
};

/// Numbers of pixels, 32 bits without a sign, in a tensor of int32: torch has few operations on uint32.
inline uint32_t* argmax_data(const Tensor& argmax, const RoiProblem& problem) {
  check(argmax.dim() == 4 && argmax.size(0) == problem.rois && argmax.size(1) == problem.channels &&
            argmax.size(2) == problem.pooled_height && argmax.size(3) == problem.pooled_width,
        "argmax: expected the shape of the result");
  check(dtype_of(argmax) == DType::i32, "argmax: expected int32");
  const RoiLevel& level = problem.levels[0];
  check(level.height * level.width <= int64_t{kNoPixel}, "input: expected a plane of less than 2^32 pixels");
  return static_cast<uint32_t*>(argmax.mutable_data_ptr());
}

/// A result or its gradient as its strides say, without a copy.
inline RoiResult result_of(const Tensor& result, const RoiProblem& problem) {
  check(result.dim() == 4 && result.size(0) == problem.rois && result.size(1) == problem.channels &&
            result.size(2) == problem.pooled_height && result.size(3) == problem.pooled_width,
        "grad: expected the shape of the result");
  check(dtype_of(result) == problem.dtype, "grad: expected the dtype of the map");
  return {result.const_data_ptr(), {result.stride(0), result.stride(1), result.stride(2), result.stride(3)}};
}

}  // namespace visionops
