// Tensors to pointers for room `suppression`: schemas, the checks that memory safety needs, and registration.
#include <optional>
#include <tuple>

#include "boxes/mask_packing.h"
#include "suppression/suppression_run.h"
#include "suppression/suppression_torch.h"

namespace visionops {
namespace {

using Rescored = std::tuple<Tensor, Tensor>;
using RescoredPadded = std::tuple<Tensor, Tensor, Tensor>;

constexpr auto on_torch_threads = [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); };

Tensor indices_of(const SuppressionRun& run) {
  Tensor indices = empty({run.count(0)}, ScalarType::Long);
  run.collect(0, static_cast<int64_t*>(indices.mutable_data_ptr()));
  return indices;
}

Rescored rescored_of(const SuppressionRun& run, ScalarType dtype) {
  Tensor indices = empty({run.count(0)}, ScalarType::Long), scores = empty({run.count(0)}, dtype);
  run.collect(0, static_cast<int64_t*>(indices.mutable_data_ptr()), scores.mutable_data_ptr());
  return {indices, scores};
}

// Results of fixed sizes: indices filled up with -1, scores with 0, and how many of each image count.
struct Padded {
  Tensor indices, scores, counts;

  Padded(const SuppressionRun& run, const Tensor& of_scores, int64_t max_output, bool rescored)
      : indices(rows(of_scores, max_output, ScalarType::Long)),
        scores(rows(of_scores, rescored ? max_output : 0, of_scores.scalar_type())),
        counts(empty(of_scores.sizes().data(), of_scores.dim() - 1, ScalarType::Long)) {
    auto* index = static_cast<int64_t*>(indices.mutable_data_ptr());
    auto* score = static_cast<char*>(scores.mutable_data_ptr());
    auto* count = static_cast<int64_t*>(counts.mutable_data_ptr());
    const int64_t bytes = rescored ? static_cast<int64_t>(scores.element_size()) : 0;
    for (int64_t image = 0; image < counts.numel(); ++image, index += max_output, score += max_output * bytes) {
      count[image] = run.count(image);
      run.collect(image, index, score);
      for (int64_t i = count[image]; i < max_output; ++i) index[i] = -1;
      const int64_t rest = (max_output - count[image]) * bytes;
      if (rest > 0) memset(score + count[image] * bytes, 0, rest);  // of nothing there may be no address
    }
  }

 private:
  static Tensor rows(const Tensor& of_scores, int64_t size, ScalarType dtype) {
    return of_scores.dim() == 2 ? empty({of_scores.size(0), size}, dtype) : empty({size}, dtype);
  }
};

RescoredPadded padded_of(const SuppressionRun& run, const Tensor& scores, int64_t max_output) {
  const Padded padded(run, scores, max_output, true);
  return {padded.indices, padded.scores, padded.counts};
}

template <bool fast>
Tensor nms_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs, double iou_threshold,
              std::optional<double> score_threshold, std::optional<int64_t> max_output, int64_t pixel_offset) {
  check(scores.dim() == 1, "scores: expected shape (N,)");
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, false);
  return indices_of(SuppressionRun(NmsProblem{{tensors.candidates}, iou_threshold, fast}, on_torch_threads));
}

template <bool fast>
std::tuple<Tensor, Tensor> nms_padded_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs,
                                         double iou_threshold, std::optional<double> score_threshold,
                                         int64_t max_output, int64_t pixel_offset) {
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, false);
  const SuppressionRun run(NmsProblem{{tensors.candidates}, iou_threshold, fast}, on_torch_threads);
  const Padded padded(run, scores, max_output, false);
  return {padded.indices, padded.counts};
}

Rescored soft_nms_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs, int64_t method,
                     double iou_threshold, double sigma, std::optional<double> score_threshold,
                     std::optional<int64_t> max_output, int64_t pixel_offset) {
  check(scores.dim() == 1, "scores: expected shape (N,)");
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const SuppressionRun run(soft_nms_problem(tensors, method, iou_threshold, sigma), on_torch_threads);
  return rescored_of(run, scores.scalar_type());
}

RescoredPadded soft_nms_padded_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs,
                                  int64_t method, double iou_threshold, double sigma,
                                  std::optional<double> score_threshold, int64_t max_output, int64_t pixel_offset) {
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const SuppressionRun run(soft_nms_problem(tensors, method, iou_threshold, sigma), on_torch_threads);
  return padded_of(run, scores, max_output);
}

Rescored matrix_nms_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs, int64_t kernel,
                       double sigma, std::optional<double> score_threshold, std::optional<int64_t> max_output,
                       int64_t pixel_offset) {
  check(scores.dim() == 1, "scores: expected shape (N,)");
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const SuppressionRun run(matrix_nms_problem(tensors, kernel, sigma), on_torch_threads);
  return rescored_of(run, scores.scalar_type());
}

RescoredPadded matrix_nms_padded_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs,
                                    int64_t kernel, double sigma, std::optional<double> score_threshold,
                                    int64_t max_output, int64_t pixel_offset) {
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const SuppressionRun run(matrix_nms_problem(tensors, kernel, sigma), on_torch_threads);
  return padded_of(run, scores, max_output);
}

SuppressionRun run_mask_matrix_nms(const CandidateTensors& tensors, int64_t kernel, double sigma) {
  const Tensor& masks = tensors.things;
  const int64_t count = tensors.scores.numel(), pixels = pixels_of_mask(count, masks.numel());
  const MaskPacking packing(masks.const_data_ptr(), dtype_of(masks), count, pixels, on_torch_threads);
  MatrixNmsProblem problem = matrix_nms_problem(tensors, kernel, sigma);
  problem.masks = packing.packed();
  return SuppressionRun(problem, on_torch_threads);
}

Rescored mask_matrix_nms_op(const Tensor& masks, const Tensor& scores, const std::optional<Tensor>& idxs,
                            int64_t kernel, double sigma, std::optional<double> score_threshold,
                            std::optional<int64_t> max_output) {
  check(scores.dim() == 1, "scores: expected shape (N,)");
  const CandidateTensors tensors(masks, scores, idxs, score_threshold, max_output, 0, true, true);
  return rescored_of(run_mask_matrix_nms(tensors, kernel, sigma), scores.scalar_type());
}

RescoredPadded mask_matrix_nms_padded_op(const Tensor& masks, const Tensor& scores, const std::optional<Tensor>& idxs,
                                         int64_t kernel, double sigma, std::optional<double> score_threshold,
                                         int64_t max_output) {
  const CandidateTensors tensors(masks, scores, idxs, score_threshold, max_output, 0, true, true);
  return padded_of(run_mask_matrix_nms(tensors, kernel, sigma), scores, max_output);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(nms_schema("nms_native").c_str());
  m.def(nms_padded_schema("nms_padded_native").c_str());
  m.def(nms_schema("fast_nms_native").c_str());
  m.def(nms_padded_schema("fast_nms_padded_native").c_str());
  m.def(soft_nms_schema("soft_nms_native").c_str());
  m.def(soft_nms_padded_schema("soft_nms_padded_native").c_str());
  m.def(matrix_nms_schema("matrix_nms_native").c_str());
  m.def(matrix_nms_padded_schema("matrix_nms_padded_native").c_str());
  m.def(mask_matrix_nms_schema("mask_matrix_nms_native").c_str());
  m.def(mask_matrix_nms_padded_schema("mask_matrix_nms_padded_native").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("nms_native", TORCH_BOX(&nms_op<false>));
  m.impl("nms_padded_native", TORCH_BOX(&nms_padded_op<false>));
  m.impl("fast_nms_native", TORCH_BOX(&nms_op<true>));
  m.impl("fast_nms_padded_native", TORCH_BOX(&nms_padded_op<true>));
  m.impl("soft_nms_native", TORCH_BOX(&soft_nms_op));
  m.impl("soft_nms_padded_native", TORCH_BOX(&soft_nms_padded_op));
  m.impl("matrix_nms_native", TORCH_BOX(&matrix_nms_op));
  m.impl("matrix_nms_padded_native", TORCH_BOX(&matrix_nms_padded_op));
  m.impl("mask_matrix_nms_native", TORCH_BOX(&mask_matrix_nms_op));
  m.impl("mask_matrix_nms_padded_native", TORCH_BOX(&mask_matrix_nms_padded_op));
}

}  // namespace visionops
