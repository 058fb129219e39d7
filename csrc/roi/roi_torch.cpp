// Tensors to pointers for room `roi`: schemas, the checks that memory safety needs, and registration.
#include "roi/roi_torch.h"

#include "roi/roi_run.h"

namespace visionops {
namespace {

constexpr auto on_torch_threads = [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); };

Tensor empty_result(const RoiProblem& problem, ScalarType dtype) {
  return empty_image(problem.rois, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last,
                     dtype);
}

Tensor empty_gradient(const Tensor& input, const RoiProblem& problem) {
  return empty_image(input.size(0), input.size(1), input.size(2), input.size(3), problem.channels_last,
                     input.scalar_type());
}

Tensor roi_align_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height, int64_t pooled_width,
                    double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const RoiInput call(input, boxes, {pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned});
  Tensor out = empty_result(call.problem, input.scalar_type());
  run_roi_align(call.problem, out.mutable_data_ptr(), on_torch_threads);
  return out;
}

Tensor roi_align_backward_op(const Tensor& grad, const Tensor& boxes, int64_t batch, int64_t height, int64_t width,
                             double spatial_scale, int64_t sampling_ratio, bool aligned, bool channels_last, bool) {
  check(grad.dim() == 4, "grad: expected 4 dimensions");
  const RoiOptions options{grad.size(2), grad.size(3), spatial_scale, sampling_ratio, aligned};
  const RoiInput call(grad, boxes, batch, height, width, options, channels_last);
  Tensor out = empty_image(batch, grad.size(1), height, width, channels_last, grad.scalar_type());
  void* data = out.mutable_data_ptr();
  run_roi_align_backward(call.problem, result_of(grad, call.problem), &data, on_torch_threads);
  return out;
}

Tensor roi_align_max_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height, int64_t pooled_width,
                        double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const RoiInput call(input, boxes, {pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned});
  Tensor out = empty_result(call.problem, input.scalar_type());
  run_roi_align_max(call.problem, out.mutable_data_ptr(), on_torch_threads);
  return out;
}

Tensor roi_align_max_backward_op(const Tensor& grad, const Tensor& input, const Tensor& boxes, double spatial_scale,
                                 int64_t sampling_ratio, bool aligned, bool) {
  check(grad.dim() == 4, "grad: expected 4 dimensions");
  const RoiInput call(input, boxes, {grad.size(2), grad.size(3), spatial_scale, sampling_ratio, aligned});
  Tensor out = empty_gradient(input, call.problem);
  run_roi_align_max_backward(call.problem, result_of(grad, call.problem), out.mutable_data_ptr(), on_torch_threads);
  return out;
}

Tensor multiscale_roi_align_op(const std::vector<Tensor>& inputs, const Tensor& boxes, int64_t pooled_height,
                               int64_t pooled_width, const std::vector<double>& spatial_scales, int64_t sampling_ratio,
                               bool aligned, int64_t canonical_size, int64_t canonical_level, int64_t min_level) {
  const RoiInput call(inputs, boxes, spatial_scales, {pooled_height, pooled_width, 1.0, sampling_ratio, aligned},
                      {canonical_size, canonical_level, min_level});
  Tensor out = empty_result(call.problem, inputs[0].scalar_type());
  run_roi_align(call.problem, out.mutable_data_ptr(), on_torch_threads);
  return out;
}

std::vector<Tensor> multiscale_roi_align_backward_op(const Tensor& grad, const Tensor& boxes, int64_t batch,
                                                     const std::vector<int64_t>& heights,
                                                     const std::vector<int64_t>& widths,
                                                     const std::vector<double>& spatial_scales, int64_t sampling_ratio,
                                                     bool aligned, int64_t canonical_size, int64_t canonical_level,
                                                     int64_t min_level, bool channels_last, bool) {
  check(grad.dim() == 4, "grad: expected 4 dimensions");
  const RoiInput call(grad, boxes, batch, heights, widths, spatial_scales,
                      {grad.size(2), grad.size(3), 1.0, sampling_ratio, aligned},
                      {canonical_size, canonical_level, min_level}, channels_last);
  std::vector<Tensor> grads;
  std::vector<void*> data;
  for (const RoiLevel& level : call.levels) {
    grads.push_back(empty_image(batch, grad.size(1), level.height, level.width, channels_last, grad.scalar_type()));
    data.push_back(grads.back().mutable_data_ptr());
  }
  run_roi_align_backward(call.problem, result_of(grad, call.problem), data.data(), on_torch_threads);
  return grads;
}

Tensor roi_pool_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height, int64_t pooled_width,
                   double spatial_scale) {
  const RoiInput call(input, boxes, {pooled_height, pooled_width, spatial_scale});
  Tensor out = empty_result(call.problem, input.scalar_type());
  run_roi_pool(call.problem, out.mutable_data_ptr(), nullptr, on_torch_threads);
  return out;
}

std::tuple<Tensor, Tensor> roi_pool_with_argmax_op(const Tensor& input, const Tensor& boxes, int64_t pooled_height,
                                                   int64_t pooled_width, double spatial_scale) {
  const RoiInput call(input, boxes, {pooled_height, pooled_width, spatial_scale});
  Tensor out = empty_result(call.problem, input.scalar_type());
  Tensor argmax = empty_result(call.problem, ScalarType::Int);
  run_roi_pool(call.problem, out.mutable_data_ptr(), argmax_data(argmax, call.problem), on_torch_threads);
  return {out, argmax};
}

Tensor roi_pool_backward_op(const Tensor& grad, const Tensor& argmax, const Tensor& boxes, int64_t batch,
                            int64_t height, int64_t width, double spatial_scale, bool) {
  check(grad.dim() == 4 && argmax.dim() == 4, "grad, argmax: expected 4 dimensions");
  const Tensor dense = as_dense_image(argmax);
  const bool channels_last = is_channels_last(dense);
  const RoiOptions options{grad.size(2), grad.size(3), spatial_scale};
  const RoiInput call(grad, boxes, batch, height, width, options, channels_last);
  const uint32_t* const pixels = argmax_data(dense, call.problem);
  Tensor out = empty_image(batch, grad.size(1), height, width, channels_last, grad.scalar_type());
  run_roi_pool_backward(call.problem, result_of(grad, call.problem), pixels, out.mutable_data_ptr(), on_torch_threads);
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(multiscale_roi_align_schema("native").c_str());
  m.def(multiscale_roi_align_backward_schema("native").c_str());
  m.def(roi_align_schema("native").c_str());
  m.def(roi_align_backward_schema("native").c_str());
  m.def(roi_align_max_schema("native").c_str());
  m.def(roi_align_max_backward_schema("native").c_str());
  m.def(roi_pool_schema("native").c_str());
  m.def(roi_pool_backward_schema("native").c_str());
  m.def(roi_pool_with_argmax_schema("native").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("multiscale_roi_align_native", TORCH_BOX(&multiscale_roi_align_op));
  m.impl("multiscale_roi_align_backward_native", TORCH_BOX(&multiscale_roi_align_backward_op));
  m.impl("roi_align_native", TORCH_BOX(&roi_align_op));
  m.impl("roi_align_backward_native", TORCH_BOX(&roi_align_backward_op));
  m.impl("roi_align_max_native", TORCH_BOX(&roi_align_max_op));
  m.impl("roi_align_max_backward_native", TORCH_BOX(&roi_align_max_backward_op));
  m.impl("roi_pool_native", TORCH_BOX(&roi_pool_op));
  m.impl("roi_pool_backward_native", TORCH_BOX(&roi_pool_backward_op));
  m.impl("roi_pool_with_argmax_native", TORCH_BOX(&roi_pool_with_argmax_op));
}

}  // namespace visionops
