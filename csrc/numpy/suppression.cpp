// Arrays to pointers for room `suppression`.
#include <optional>
#include <tuple>

#include "boxes/mask_packing.h"
#include "numpy/arrays.h"
#include "suppression/suppression_run.h"

namespace visionops {
namespace {

using Rescored = std::tuple<py::array_t<int64_t>, py::array>;
using Classes = std::optional<py::array_t<int64_t>>;

Candidates candidates_of(const py::array& boxes, const py::array& scores, const Classes& idxs,
                         std::optional<double> score_threshold, std::optional<int64_t> max_output, int pixel_offset,
                         bool rescored) {
  const int64_t n = scores.shape(0);
  return {boxes.data(),
          scores.data(),
          idxs ? idxs->data() : nullptr,
          dtype_of(boxes),
          dtype_of(scores),
          1,
          n,
          score_threshold.value_or(0.0),
          score_threshold.has_value(),
          max_output.value_or(n),
          pixel_offset,
          rescored};
}

template <class Problem>
SuppressionRun run(const Problem& problem) {
  py::gil_scoped_release released;
  return SuppressionRun(problem, [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); });
}

Rescored rescored_of(const SuppressionRun& run, const py::dtype& dtype) {
  py::array_t<int64_t> indices(run.count(0));
  py::array scores(dtype, run.count(0));
  run.collect(0, indices.mutable_data(), scores.mutable_data());
  return {indices, scores};
}

py::array_t<int64_t> nms_array(const py::array& boxes, const py::array& scores, const Classes& idxs,
                               double iou_threshold, std::optional<double> score_threshold,
                               std::optional<int64_t> max_output, int pixel_offset, bool fast) {
  const Candidates candidates = candidates_of(boxes, scores, idxs, score_threshold, max_output, pixel_offset, false);
  const SuppressionRun done = run(NmsProblem{{candidates}, iou_threshold, fast});
  py::array_t<int64_t> indices(done.count(0));
  done.collect(0, indices.mutable_data());
  return indices;
}

Rescored soft_nms_array(const py::array& boxes, const py::array& scores, const Classes& idxs, int method,
                        double iou_threshold, double sigma, std::optional<double> score_threshold,
                        std::optional<int64_t> max_output, int pixel_offset) {
  const Candidates candidates = candidates_of(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const SoftNmsProblem problem{{candidates}, static_cast<SoftNmsMethod>(method), iou_threshold, sigma};
  return rescored_of(run(problem), scores.dtype());
}

Rescored matrix_nms_array(const py::array& boxes, const py::array& scores, const Classes& idxs, int kernel,
                          double sigma, std::optional<double> score_threshold, std::optional<int64_t> max_output,
                          int pixel_offset) {
  const Candidates candidates = candidates_of(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const MatrixNmsProblem problem{{candidates}, static_cast<MatrixNmsKernel>(kernel), sigma, {}};
  return rescored_of(run(problem), scores.dtype());
}

Rescored mask_matrix_nms_array(const py::array& masks, const py::array& scores, const Classes& idxs, int kernel,
                               double sigma, std::optional<double> score_threshold, std::optional<int64_t> max_output) {
  Candidates candidates = candidates_of(masks, scores, idxs, score_threshold, max_output, 0, true);
  candidates.boxes = nullptr;
  std::optional<MaskPacking> packing;
  {
    const int64_t n = masks.shape(0), pixels = pixels_of_mask(n, masks.size());
    py::gil_scoped_release released;
    packing.emplace(masks.data(), candidates.boxes_dtype, n, pixels,
                    [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); });
  }
  const MatrixNmsProblem problem{{candidates}, static_cast<MatrixNmsKernel>(kernel), sigma, packing->packed()};
  return rescored_of(run(problem), scores.dtype());
}

}  // namespace

void register_suppression(py::module_& m) {
  m.def("nms", &nms_array);
  m.def("soft_nms", &soft_nms_array);
  m.def("matrix_nms", &matrix_nms_array);
  m.def("mask_matrix_nms", &mask_matrix_nms_array);
}

}  // namespace visionops
