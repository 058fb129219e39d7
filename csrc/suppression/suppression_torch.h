// A call of a suppression as its backends share it: its tensors, checked for what memory safety needs, and its schemas.
#pragma once

#include <limits>
#include <optional>
#include <string>

#include "common/stable_torch.h"
#include "suppression/matrix_nms.h"
#include "suppression/nms.h"
#include "suppression/soft_nms.h"

namespace visionops {

// The schemas of the backend whose torch operation has this name.

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

inline std::string soft_nms_schema(const std::string& name) {
  return name +
         "(Tensor boxes, Tensor scores, Tensor? idxs, int method, float iou_threshold, float sigma, "
         "float? score_threshold, SymInt? max_output, int pixel_offset) -> (Tensor, Tensor)";
}

inline std::string soft_nms_padded_schema(const std::string& name) {
  return name +
         "(Tensor boxes, Tensor scores, Tensor? idxs, int method, float iou_threshold, float sigma, "
         "float? score_threshold, SymInt max_output, int pixel_offset) -> (Tensor, Tensor, Tensor)";
}

inline std::string matrix_nms_schema(const std::string& name) {
  return name +
         "(Tensor boxes, Tensor scores, Tensor? idxs, int kernel, float sigma, float? score_threshold, "
         "SymInt? max_output, int pixel_offset) -> (Tensor, Tensor)";
}

inline std::string matrix_nms_padded_schema(const std::string& name) {
  return name +
         "(Tensor boxes, Tensor scores, Tensor? idxs, int kernel, float sigma, float? score_threshold, "
         "SymInt max_output, int pixel_offset) -> (Tensor, Tensor, Tensor)";
}

inline std::string mask_matrix_nms_schema(const std::string& name) {
  return name +
         "(Tensor masks, Tensor scores, Tensor? idxs, int kernel, float sigma, float? score_threshold, "
         "SymInt? max_output) -> (Tensor, Tensor)";
}

inline std::string mask_matrix_nms_padded_schema(const std::string& name) {
  return name +
         "(Tensor masks, Tensor scores, Tensor? idxs, int kernel, float sigma, float? score_threshold, "
         "SymInt max_output) -> (Tensor, Tensor, Tensor)";
}

/// The contiguous tensors of a call and the candidates that point into them.
struct CandidateTensors {
  /// `things` are boxes (N, 4) or masks (N, H, W), or images of them.
  CandidateTensors(const Tensor& things, const Tensor& scores, const std::optional<Tensor>& idxs,
                   std::optional<double> score_threshold, std::optional<int64_t> max_output, int64_t pixel_offset,
                   bool rescored, bool masks = false)
      : things(as_contiguous(things)), scores(as_contiguous(scores)) {
    const int64_t dims = scores.dim();
    check(dims == 1 || dims == 2, "scores: expected shape (N,) or (B, N)");
    if (masks) {
      check(things.dim() == dims + 2, "masks: expected shape (N, H, W) or (B, N, H, W)");
    } else {
      check(things.dim() == dims + 1 && things.size(dims) == 4, "boxes: expected shape (N, 4) or (B, N, 4)");
      check(dtype_of(things) != DType::b8, "boxes: expected a floating or integer dtype");
    }
    const int64_t images = dims == 2 ? scores.size(0) : 1;
    const int64_t n = scores.size(dims - 1);
    check(things.size(dims - 1) == n && (dims == 1 || things.size(0) == images), "scores: expected one per box");
    check(n <= std::numeric_limits<int32_t>::max(), "boxes: expected fewer than 2^31 in an image");
    check(is_floating(dtype_of(scores)), "scores: expected a floating dtype");
    check(max_output.value_or(0) >= 0, "max_output: expected 0 or more");
    const int64_t* classes = nullptr;
    if (idxs) {
      check(idxs->scalar_type() == ScalarType::Long, "idxs: expected dtype int64");
      check(idxs->numel() == scores.numel(), "idxs: expected one per box");
      this->idxs = as_contiguous(*idxs);
      classes = static_cast<const int64_t*>(this->idxs->const_data_ptr());
    }
    candidates = {masks ? nullptr : this->things.const_data_ptr(),
                  this->scores.const_data_ptr(),
                  classes,
                  dtype_of(things),
                  dtype_of(scores),
                  images,
                  n,
                  score_threshold.value_or(0.0),
                  score_threshold.has_value(),
                  max_output.value_or(n),
                  static_cast<int>(pixel_offset),
                  rescored};
  }

  Tensor things, scores;
  std::optional<Tensor> idxs;
  Candidates candidates;
};

/// What a call of soft_nms asks for.
inline SoftNmsProblem soft_nms_problem(const CandidateTensors& tensors, int64_t method, double iou_threshold,
                                       double sigma) {
  check(method == 0 || method == 1, "method: expected 0 or 1");
  check(sigma > 0, "sigma: expected more than 0");
  return {{tensors.candidates}, static_cast<SoftNmsMethod>(method), iou_threshold, sigma};
}

/// What a call of matrix_nms asks for; mask_matrix_nms adds its masks.
inline MatrixNmsProblem matrix_nms_problem(const CandidateTensors& tensors, int64_t kernel, double sigma) {
  check(kernel == 0 || kernel == 1, "kernel: expected 0 or 1");
  check(sigma > 0, "sigma: expected more than 0");
  return {{tensors.candidates}, static_cast<MatrixNmsKernel>(kernel), sigma, {}};
}

}  // namespace visionops
