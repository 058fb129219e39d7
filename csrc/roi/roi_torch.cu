// Tensors to pointers for room `roi` on a GPU, and registration; emulated, the same as operations on the CPU.
#include "common/device_torch.cuh"
#include "roi/roi_cuda.h"
#include "roi/roi_torch.h"

namespace visionops {
namespace {

using namespace VISIONOPS_ISA;

Tensor empty_result(const RoiProblem& problem, const Tensor& like, ScalarType dtype) {
  return empty_image_on(like, problem.rois, problem.channels, problem.pooled_height, problem.pooled_width,
                        problem.channels_last, dtype);
}

Tensor empty_gradient(const Tensor& input, const RoiProblem& problem) {
  return empty_image_on(input, input.size(0), input.size(1), input.size(2), input.size(3), problem.channels_last,
                        input.scalar_type());
}

Tensor scratch_on(const Tensor& other, int64_t bytes) { return empty_on(other, {bytes}, ScalarType::Byte); }

RoiCall checked_call(const RoiInput& input) {
  check(input.problem.level_count <= kMostLevels, "inputs: expected at most 16 maps");
  return roi_call(input.problem);
}

Tensor align_op(const RoiInput& input, const Tensor& like) {
  const RoiCall call = checked_call(input);
  Tensor out = empty_result(input.problem, like, like.scalar_type());
  const Tensor scratch = scratch_on(like, roi_align_cuda_workspace_bytes(call));
  roi_align_cuda(call, scratch.mutable_data_ptr(), out.mutable_data_ptr(), current_stream(like));
  return out;
}

std::vector<Tensor> align_backward_op(const RoiInput& input, const Tensor& grad, bool deterministic) {
  const RoiCall call = checked_call(input);
  const RoiProblem& problem = input.problem;
  std::vector<Tensor> grads;
  std::vector<void*> data;
  for (const RoiLevel& level : input.levels) {
    grads.push_back(empty_image_on(grad, problem.batch, problem.channels, level.height, level.width,
                                   problem.channels_last, grad.scalar_type()));
    data.push_back(grads.back().mutable_data_ptr());
  }
  const Tensor scratch = scratch_on(grad, roi_align_backward_cuda_workspace_bytes(call, deterministic));
  roi_align_backward_cuda(call, result_of(grad, problem), deterministic, scratch.mutable_data_ptr(), data.data(),
                          current_stream(grad));
  return grads;
}

Tensor roi_align_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height, int64_t pooled_width,
                    double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const DeviceGuard guard(input);
  return align_op(RoiInput(input, boxes, {pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned}), input);
}

Tensor roi_align_backward_op(const Tensor& grad, const Tensor& boxes, int64_t batch, int64_t height, int64_t width,
                             double spatial_scale, int64_t sampling_ratio, bool aligned, bool channels_last,
                             bool deterministic) {
  check(grad.dim() == 4, "grad: expected 4 dimensions");
  const DeviceGuard guard(grad);
  const RoiOptions options{grad.size(2), grad.size(3), spatial_scale, sampling_ratio, aligned};
  return align_backward_op(RoiInput(grad, boxes, batch, height, width, options, channels_last), grad, deterministic)[0];
}

Tensor roi_align_max_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height, int64_t pooled_width,
                        double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const DeviceGuard guard(input);
  const RoiInput all(input, boxes, {pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned});
  Tensor out = empty_result(all.problem, input, input.scalar_type());
  roi_align_max_cuda(checked_call(all), out.mutable_data_ptr(), current_stream(input));
  return out;
}

Tensor roi_align_max_backward_op(const Tensor& grad, const Tensor& input, const Tensor& boxes, double spatial_scale,
                                 int64_t sampling_ratio, bool aligned, bool deterministic) {
  check(grad.dim() == 4, "grad: expected 4 dimensions");
  const DeviceGuard guard(input);
  const RoiInput all(input, boxes, {grad.size(2), grad.size(3), spatial_scale, sampling_ratio, aligned});
  const RoiCall call = checked_call(all);
  Tensor out = empty_gradient(input, all.problem);
  const Tensor scratch = scratch_on(input, roi_align_max_backward_cuda_workspace_bytes(call, deterministic));
  roi_align_max_backward_cuda(call, result_of(grad, all.problem), deterministic, scratch.mutable_data_ptr(),
                              out.mutable_data_ptr(), current_stream(input));
  return out;
}

Tensor multiscale_roi_align_op(const std::vector<Tensor>& inputs, const Tensor& boxes, int64_t pooled_height,
                               int64_t pooled_width, const std::vector<double>& spatial_scales, int64_t sampling_ratio,
                               bool aligned, int64_t canonical_size, int64_t canonical_level, int64_t min_level) {
  const DeviceGuard guard(boxes);
  return align_op(RoiInput(inputs, boxes, spatial_scales, {pooled_height, pooled_width, 1.0, sampling_ratio, aligned},
                           {canonical_size, canonical_level, min_level}),
                  inputs[0]);
}

std::vector<Tensor> multiscale_roi_align_backward_op(const Tensor& grad, const Tensor& boxes, int64_t batch,
                                                     const std::vector<int64_t>& heights,
                                                     const std::vector<int64_t>& widths,
                                                     const std::vector<double>& spatial_scales, int64_t sampling_ratio,
                                                     bool aligned, int64_t canonical_size, int64_t canonical_level,
                                                     int64_t min_level, bool channels_last, bool deterministic) {
  check(grad.dim() == 4, "grad: expected 4 dimensions");
  const DeviceGuard guard(grad);
  return align_backward_op(RoiInput(grad, boxes, batch, heights, widths, spatial_scales,
                                    {grad.size(2), grad.size(3), 1.0, sampling_ratio, aligned},
                                    {canonical_size, canonical_level, min_level}, channels_last),
                           grad, deterministic);
}

Tensor roi_pool_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height, int64_t pooled_width,
                   double spatial_scale) {
  const DeviceGuard guard(input);
  const RoiInput all(input, boxes, {pooled_height, pooled_width, spatial_scale});
  Tensor out = empty_result(all.problem, input, input.scalar_type());
  roi_pool_cuda(checked_call(all), out.mutable_data_ptr(), nullptr, current_stream(input));
  return out;
}

std::tuple<Tensor, Tensor> roi_pool_with_argmax_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height,
                                                   int64_t pooled_width, double spatial_scale) {
  const DeviceGuard guard(input);
  const RoiInput all(input, boxes, {pooled_height, pooled_width, spatial_scale});
  Tensor out = empty_result(all.problem, input, input.scalar_type());
  Tensor argmax = empty_result(all.problem, input, ScalarType::Int);
  roi_pool_cuda(checked_call(all), out.mutable_data_ptr(), argmax_data(argmax, all.problem), current_stream(input));
  return {out, argmax};
}

Tensor roi_pool_backward_op(const Tensor& grad, const Tensor& argmax, const Tensor& boxes, int64_t batch,
                            int64_t height, int64_t width, double spatial_scale, bool deterministic) {
  check(grad.dim() == 4 && argmax.dim() == 4, "grad, argmax: expected 4 dimensions");
  const DeviceGuard guard(grad);
  const Tensor dense = as_dense_image(argmax);
  const bool channels_last = is_channels_last(dense);
  const RoiOptions options{grad.size(2), grad.size(3), spatial_scale};
  const RoiInput all(grad, boxes, batch, height, width, options, channels_last);
  const RoiCall call = checked_call(all);
  const uint32_t* const pixels = argmax_data(dense, all.problem);
  Tensor out = empty_image_on(grad, batch, grad.size(1), height, width, channels_last, grad.scalar_type());
  const Tensor scratch = scratch_on(grad, roi_pool_backward_cuda_workspace_bytes(call, deterministic));
  roi_pool_backward_cuda(call, result_of(grad, all.problem), pixels, deterministic, scratch.mutable_data_ptr(),
                         out.mutable_data_ptr(), current_stream(grad));
  return out;
}

}  // namespace

#ifdef VISIONOPS_EMULATION
STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(multiscale_roi_align_schema("emulated").c_str());
  m.def(multiscale_roi_align_backward_schema("emulated").c_str());
  m.def(roi_align_schema("emulated").c_str());
  m.def(roi_align_backward_schema("emulated").c_str());
  m.def(roi_align_max_schema("emulated").c_str());
  m.def(roi_align_max_backward_schema("emulated").c_str());
  m.def(roi_pool_schema("emulated").c_str());
  m.def(roi_pool_backward_schema("emulated").c_str());
  m.def(roi_pool_with_argmax_schema("emulated").c_str());
}
#define VISIONOPS_NAME(op) op "_emulated"
STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
#else
#define VISIONOPS_NAME(op) op "_native"
STABLE_TORCH_LIBRARY_IMPL(visionops, CUDA, m) {
#endif
  m.impl(VISIONOPS_NAME("multiscale_roi_align"), TORCH_BOX(&multiscale_roi_align_op));
  m.impl(VISIONOPS_NAME("multiscale_roi_align_backward"), TORCH_BOX(&multiscale_roi_align_backward_op));
  m.impl(VISIONOPS_NAME("roi_align"), TORCH_BOX(&roi_align_op));
  m.impl(VISIONOPS_NAME("roi_align_backward"), TORCH_BOX(&roi_align_backward_op));
  m.impl(VISIONOPS_NAME("roi_align_max"), TORCH_BOX(&roi_align_max_op));
  m.impl(VISIONOPS_NAME("roi_align_max_backward"), TORCH_BOX(&roi_align_max_backward_op));
  m.impl(VISIONOPS_NAME("roi_pool"), TORCH_BOX(&roi_pool_op));
  m.impl(VISIONOPS_NAME("roi_pool_backward"), TORCH_BOX(&roi_pool_backward_op));
  m.impl(VISIONOPS_NAME("roi_pool_with_argmax"), TORCH_BOX(&roi_pool_with_argmax_op));
}

}  // namespace visionops
