// Tensors to pointers for room `suppression` on a GPU, and registration; emulated, the same as operations on the CPU.
#include <optional>
#include <tuple>

#include "common/device_torch.cuh"
#include "suppression/nms_cuda.h"
#include "suppression/soft_nms_cuda.h"
#include "suppression/suppression_torch.h"

namespace visionops {
namespace {

using namespace VISIONOPS_ISA;

int64_t limit_of(const CandidateTensors& tensors) {
  return tensors.candidates.max_output < tensors.candidates.n ? tensors.candidates.max_output : tensors.candidates.n;
}

/// A row of `size` values for each image.
Tensor rows_on(const Tensor& boxes, const Tensor& scores, int64_t size, ScalarType dtype) {
  return scores.dim() == 2 ? empty_on(boxes, {scores.size(0), size}, dtype) : empty_on(boxes, {size}, dtype);
}

Tensor counts_on(const Tensor& boxes, const Tensor& scores) {
  return scores.dim() == 2 ? empty_on(boxes, {scores.size(0)}, ScalarType::Long)
                           : empty_on(boxes, {}, ScalarType::Long);
}

/// Waits for the count of a single image.
int64_t count_from(const Tensor& counts) {
  int64_t count = 0;
  copy_to_host(&count, counts.const_data_ptr(), sizeof count, current_stream(counts));
  return count;
}

/// The first `count` values of a row.
Tensor first_of(const Tensor& row, int64_t count) {
  Tensor part = empty_on(row, {count}, row.scalar_type());
  const int64_t bytes = count * static_cast<int64_t>(row.element_size());
  copy_on_device(part.mutable_data_ptr(), row.const_data_ptr(), bytes, current_stream(row));
  return part;
}

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
  const int64_t limit = limit_of(tensors);
  const Tensor all = empty_on(boxes, {limit}, ScalarType::Long), counts = empty_on(boxes, {1}, ScalarType::Long);
  run_nms({{tensors.candidates}, iou_threshold, false}, boxes, limit, all, counts);
  return first_of(all, count_from(counts));
}

std::tuple<Tensor, Tensor> nms_padded_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs,
                                         double iou_threshold, std::optional<double> score_threshold,
                                         int64_t max_output, int64_t pixel_offset) {
  const DeviceGuard guard(boxes);
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, false);
  const Tensor indices = rows_on(boxes, scores, max_output, ScalarType::Long), counts = counts_on(boxes, scores);
  run_nms({{tensors.candidates}, iou_threshold, false}, boxes, max_output, indices, counts);
  return {indices, counts};
}

// Queues a call; indices and decayed are (images, limit).
void run_soft_nms(const CandidateTensors& tensors, int64_t method, double iou_threshold, double sigma, int64_t limit,
                  const Tensor& indices, const Tensor& decayed, const Tensor& counts) {
  SoftNmsProblem problem = soft_nms_problem(tensors, method, iou_threshold, sigma);
  check(problem.images * problem.n < int64_t{1} << 31, "boxes: expected fewer than 2^31 in all images");
  problem.max_output = limit;
  Tensor workspace = empty_on(indices, {soft_nms_cuda_workspace_bytes(problem)}, ScalarType::Byte);
  soft_nms_cuda(problem, workspace.mutable_data_ptr(), static_cast<int64_t*>(indices.mutable_data_ptr()),
                decayed.mutable_data_ptr(), static_cast<int64_t*>(counts.mutable_data_ptr()), current_stream(indices));
}

std::tuple<Tensor, Tensor> soft_nms_op(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& idxs,
                                       int64_t method, double iou_threshold, double sigma,
                                       std::optional<double> score_threshold, std::optional<int64_t> max_output,
                                       int64_t pixel_offset) {
  check(scores.dim() == 1, "scores: expected shape (N,)");
  const DeviceGuard guard(boxes);
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const int64_t limit = limit_of(tensors);
  const Tensor all = empty_on(boxes, {limit}, ScalarType::Long), counts = empty_on(boxes, {1}, ScalarType::Long);
  const Tensor decayed = empty_on(boxes, {limit}, scores.scalar_type());
  run_soft_nms(tensors, method, iou_threshold, sigma, limit, all, decayed, counts);
  const int64_t count = count_from(counts);
  return {first_of(all, count), first_of(decayed, count)};
}

std::tuple<Tensor, Tensor, Tensor> soft_nms_padded_op(const Tensor& boxes, const Tensor& scores,
                                                      const std::optional<Tensor>& idxs, int64_t method,
                                                      double iou_threshold, double sigma,
                                                      std::optional<double> score_threshold, int64_t max_output,
                                                      int64_t pixel_offset) {
  const DeviceGuard guard(boxes);
  const CandidateTensors tensors(boxes, scores, idxs, score_threshold, max_output, pixel_offset, true);
  const Tensor indices = rows_on(boxes, scores, max_output, ScalarType::Long);
  const Tensor decayed = rows_on(boxes, scores, max_output, scores.scalar_type());
  const Tensor counts = counts_on(boxes, scores);
  run_soft_nms(tensors, method, iou_threshold, sigma, max_output, indices, decayed, counts);
  return {indices, decayed, counts};
}

}  // namespace

#ifdef VISIONOPS_EMULATION
STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(nms_schema("nms_emulated").c_str());
  m.def(nms_padded_schema("nms_padded_emulated").c_str());
  m.def(soft_nms_schema("soft_nms_emulated").c_str());
  m.def(soft_nms_padded_schema("soft_nms_padded_emulated").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("nms_emulated", TORCH_BOX(&nms_op));
  m.impl("nms_padded_emulated", TORCH_BOX(&nms_padded_op));
  m.impl("soft_nms_emulated", TORCH_BOX(&soft_nms_op));
  m.impl("soft_nms_padded_emulated", TORCH_BOX(&soft_nms_padded_op));
}
#else
STABLE_TORCH_LIBRARY_IMPL(visionops, CUDA, m) {
  m.impl("nms_native", TORCH_BOX(&nms_op));
  m.impl("nms_padded_native", TORCH_BOX(&nms_padded_op));
  m.impl("soft_nms_native", TORCH_BOX(&soft_nms_op));
  m.impl("soft_nms_padded_native", TORCH_BOX(&soft_nms_padded_op));
}
#endif

}  // namespace visionops
