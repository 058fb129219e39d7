// Arrays to pointers for room `suppression`.
#include <optional>

#include "numpy/arrays.h"
#include "suppression/nms_run.h"

namespace visionops {
namespace {

py::array_t<int64_t> nms_array(const py::array& boxes, const py::array& scores,
                               const std::optional<py::array_t<int64_t>>& idxs, double iou_threshold,
                               std::optional<double> score_threshold, std::optional<int64_t> max_output,
                               int pixel_offset) {
  const int64_t n = scores.shape(0);
  const NmsProblem problem{boxes.data(),
                           scores.data(),
                           idxs ? idxs->data() : nullptr,
                           dtype_of(boxes),
                           dtype_of(scores),
                           1,
                           n,
                           iou_threshold,
                           score_threshold.value_or(0.0),
                           score_threshold.has_value(),
                           max_output.value_or(n),
                           pixel_offset};
  std::optional<NmsRun> run;
  {
    py::gil_scoped_release released;
    run.emplace(problem, [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); });
  }
  py::array_t<int64_t> indices(run->count(0));
  run->collect(0, indices.mutable_data());
  return indices;
}

}  // namespace

void register_suppression(py::module_& m) { m.def("nms", &nms_array); }

}  // namespace visionops
