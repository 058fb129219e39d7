// Tensors to pointers for room `suppression`: schemas, the checks that memory safety needs, and registration.
#include <optional>
#include <tuple>

#include "suppression/nms_run.h"
#include "suppression/nms_torch.h"

namespace visionops {
namespace {

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
  m.def(nms_schema("nms_native").c_str());
  m.def(nms_padded_schema("nms_padded_native").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("nms_native", TORCH_BOX(&nms_op));
  m.impl("nms_padded_native", TORCH_BOX(&nms_padded_op));
}

}  // namespace visionops
