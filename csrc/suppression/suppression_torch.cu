// Tensors to pointers for room `suppression` on a GPU, and registration; emulated, the same as operations on the CPU.
#include <optional>
#include <tuple>

#include "common/device_torch.cuh"
#include "suppression/nms_cuda.h"
#include "suppression/suppression_torch.h"

namespace visionops {
namespace {

using namespace VISIONOPS_ISA;

// Queues a call; indices are (images, limit).
void run_nms(NmsProblem problem, const Tensor& boxes, int64_t limit, const Tensor& indices, const Tensor& counts) {
  check(problem.images * problem.n < int64_t{1} << 31, "boxes: expected fewer than 2^31 in all images");
  problem.max_output = limit;
  Tensor workspace = empty_on(boxes, {nms_cuda_workspace_bytes(problem)}, ScalarType::Byte);
  nms_cuda(problem, workspace.mutable_data_ptr(), static_cast<int64_t*>(indices.mutable_data_ptr()),
           static_cast<int64_t*>(counts.mutable_data_ptr()), current_stream(boxes));
}

Tensor nms_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs, double iou_threshold,
              std::optional<double> score_threshold, std::optional<int64_t> max_output, int64_t pixel_offset) {
  check(scores.dim() == 1, "scores: expected shape (N,)");
  const DeviceGuard guard(boxes);
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, false);
  const int64_t limit =
      tensors.candidates.max_output < tensors.candidates.n ? tensors.candidates.max_output : tensors.candidates.n;
  const Tensor all = empty_on(boxes, {limit}, ScalarType::Long), counts = empty_on(boxes, {1}, ScalarType::Long);
  run_nms({{tensors.candidates}, iou_threshold, false}, boxes, limit, all, counts);
  int64_t count = 0;
  copy_to_host(&count, counts.const_data_ptr(), sizeof count, current_stream(boxes));
  Tensor indices = empty_on(boxes, {count}, ScalarType::Long);
  copy_on_device(indices.mutable_data_ptr(), all.const_data_ptr(), count * int64_t{sizeof(int64_t)},
                 current_stream(boxes));
  return indices;
}

std::tuple<Tensor, Tensor> nms_padded_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs,
                                         double iou_threshold, std::optional<double> score_threshold,
                                         int64_t max_output, int64_t pixel_offset) {
  const DeviceGuard guard(boxes);
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, false);
  const int64_t images = tensors.candidates.images;
  const bool batched = scores.dim() == 2;
  Tensor indices = batched ? empty_on(boxes, {images, max_output}, ScalarType::Long)
                           : empty_on(boxes, {max_output}, ScalarType::Long);
  Tensor counts = batched ? empty_on(boxes, {images}, ScalarType::Long) : empty_on(boxes, {}, ScalarType::Long);
  run_nms({{tensors.candidates}, iou_threshold, false}, boxes, max_output, indices, counts);
  return {indices, counts};
}

}  // namespace

#ifdef VISIONOPS_EMULATION
STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(nms_schema("nms_emulated").c_str());
  m.def(nms_padded_schema("nms_padded_emulated").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("nms_emulated", TORCH_BOX(&nms_op));
  m.impl("nms_padded_emulated", TORCH_BOX(&nms_padded_op));
}
#else
STABLE_TORCH_LIBRARY_IMPL(visionops, CUDA, m) {
  m.impl("nms_native", TORCH_BOX(&nms_op));
  m.impl("nms_padded_native", TORCH_BOX(&nms_padded_op));
}
#endif

}  // namespace visionops
