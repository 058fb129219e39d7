// A call of nms as its backends share it: its tensors, checked for what memory safety needs, and its schemas.
#pragma once

#include <limits>
#include <optional>
#include <string>

#include "common/stable_torch.h"
#include "suppression/nms.h"

namespace visionops {

/// The schema of the backend whose torch operation has this name.
inline std::string nms_schema(const std::string& name) {
  return name +
         "(Tensor boxes, Tensor scores, Tensor? idxs, float iou_threshold, float? score_threshold, "
         "SymInt? max_output, int pixel_offset) -> Tensor";
}

inline std::string nms_padded_schema(const std::string& name) {
  return name +
         "(Tensor boxes, Tensor scores, Tensor? idxs, float iou_threshold, float? score_threshold, "
         "SymInt max_output, int pixel_offset) -> (Tensor, Tensor)";
}

/// The contiguous tensors of a call and the problem that points into them.
struct NmsInput {
  NmsInput(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs, double iou_threshold,
           std::optional<double> score_threshold, std::optional<int64_t> max_output, int64_t pixel_offset)
      : boxes(as_contiguous(boxes)), scores(as_contiguous(scores)) {
    const int64_t dims = scores.dim();
    check(dims == 1 || dims == 2, "scores: expected shape (N,) or (B, N)");
    check(boxes.dim() == dims + 1 && boxes.size(dims) == 4, "boxes: expected shape (N, 4) or (B, N, 4)");
    const int64_t images = dims == 2 ? scores.size(0) : 1;
    const int64_t n = scores.size(dims - 1);
    check(boxes.size(dims - 1) == n && (dims == 1 || boxes.size(0) == images), "scores: expected one per box");
    check(n <= std::numeric_limits<int32_t>::max(), "boxes: expected fewer than 2^31 in an image");
    check(is_floating(dtype_of(scores)), "scores: expected a floating dtype");
    check(dtype_of(boxes) != DType::b8, "boxes: expected a floating or integer dtype");
    check(max_output.value_or(0) >= 0, "max_output: expected 0 or more");
    const int64_t* classes = nullptr;
    if (idxs) {
      check(idxs->scalar_type() == ScalarType::Long, "idxs: expected dtype int64");
      check(idxs->numel() == scores.numel(), "idxs: expected one per box");
      this->idxs = as_contiguous(*idxs);
      classes = static_cast<const int64_t*>(this->idxs->const_data_ptr());
    }
    problem = {this->boxes.const_data_ptr(),
               this->scores.const_data_ptr(),
               classes,
               dtype_of(boxes),
               dtype_of(scores),
               images,
               n,
               iou_threshold,
               score_threshold.value_or(0.0),
               score_threshold.has_value(),
               max_output.value_or(n),
               static_cast<int>(pixel_offset)};
  }

  Tensor boxes, scores;
  std::optional<Tensor> idxs;
  NmsProblem problem;
};

}  // namespace visionops
