// Tensors to pointers for room `suppression`: schemas, the checks that memory safety needs, and registration.
#include <limits>
#include <optional>
#include <tuple>

#include "common/stable_torch.h"
#include "suppression/nms_run.h"

namespace visionops {
namespace {

// The contiguous tensors of a call and the problem that points into them.
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

constexpr auto on_torch_threads = [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); };

Tensor nms_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs, double iou_threshold,
              std::optional<double> score_threshold, std::optional<int64_t> max_output, int64_t pixel_offset) {
  check(scores.dim() == 1, "scores: expected shape (N,)");
  const NmsInput input(boxes, scores, idxs, iou_threshold, score_threshold, max_output, pixel_offset);
  const NmsRun run(input.problem, on_torch_threads);
  Tensor indices = empty({run.count(0)}, ScalarType::Long);
  run.collect(0, static_cast<int64_t*>(indices.mutable_data_ptr()));
  return indices;
}

std::tuple<Tensor, Tensor> nms_padded_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs,
                                         double iou_threshold, std::optional<double> score_threshold,
                                         int64_t max_output, int64_t pixel_offset) {
  const NmsInput input(boxes, scores, idxs, iou_threshold, score_threshold, max_output, pixel_offset);
  const NmsRun run(input.problem, on_torch_threads);
  const int64_t images = input.problem.images;
  const bool batched = scores.dim() == 2;
  Tensor indices = batched ? empty({images, max_output}, ScalarType::Long) : empty({max_output}, ScalarType::Long);
  Tensor counts = batched ? empty({images}, ScalarType::Long) : empty({}, ScalarType::Long);
  auto* row = static_cast<int64_t*>(indices.mutable_data_ptr());
  auto* count = static_cast<int64_t*>(counts.mutable_data_ptr());
  for (int64_t image = 0; image < images; ++image, row += max_output) {
    count[image] = run.count(image);
    run.collect(image, row);
    for (int64_t i = count[image]; i < max_output; ++i) row[i] = -1;
  }
  return {indices, counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "nms_native(Tensor boxes, Tensor scores, Tensor? idxs, float iou_threshold, float? score_threshold, "
      "SymInt? max_output, int pixel_offset) -> Tensor");
  m.def(
      "nms_padded_native(Tensor boxes, Tensor scores, Tensor? idxs, float iou_threshold, float? score_threshold, "
      "SymInt max_output, int pixel_offset) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("nms_native", TORCH_BOX(&nms_op));
  m.impl("nms_padded_native", TORCH_BOX(&nms_padded_op));
}

}  // namespace visionops
