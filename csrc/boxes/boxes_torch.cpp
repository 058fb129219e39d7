// Tensors to pointers for room `boxes`: schemas, the checks that memory safety needs, and registration.
#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "boxes/box_area.h"
#include "boxes/box_convert.h"
#include "boxes/box_iou.h"
#include "boxes/clip_boxes_to_image.h"
#include "boxes/mask_packing.h"
#include "boxes/masks_to_boxes.h"
#include "boxes/remove_small_boxes.h"
#include "common/stable_torch.h"

namespace visionops {
namespace {

constexpr int64_t kBoxesPerTask = 16384;
constexpr int64_t kPairsPerTask = 32768;

// (..., 4) boxes of numbers, made contiguous.
Tensor boxes_of(const Tensor& boxes) {
  check(boxes.dim() >= 1 && boxes.size(boxes.dim() - 1) == 4, "boxes: expected shape (..., 4)");
  check(dtype_of(boxes) != DType::b8, "boxes: expected a floating or integer dtype");
  return as_contiguous(boxes);
}

// A gradient of `count` values in the boxes' floating dtype, made contiguous.
Tensor grad_of(const Tensor& grad, const Tensor& boxes, int64_t count) {
  check(is_floating(dtype_of(boxes)) && grad.scalar_type() == boxes.scalar_type(), "grad: expected the boxes' dtype");
  check(grad.numel() == count, "grad: expected the shape of the result");
  return as_contiguous(grad);
}

// boxes1 (..., N, 4) and boxes2 (..., M, 4) with equal leading sizes.
BoxIouProblem box_iou_problem(const Tensor& boxes1, const Tensor& boxes2, int64_t mode, bool aligned,
                              int64_t pixel_offset) {
  const int64_t dims = boxes1.dim();
  check(dims >= 2 && boxes2.dim() == dims, "boxes1, boxes2: expected shapes (..., N, 4) and (..., M, 4)");
  check(boxes1.scalar_type() == boxes2.scalar_type(), "boxes2: expected the dtype of boxes1");
  int64_t batch = 1;
  for (int64_t d = 0; d < dims - 2; ++d) {
    check(boxes1.size(d) == boxes2.size(d), "boxes2: expected the leading sizes of boxes1");
    batch *= boxes1.size(d);
  }
  const int64_t n = boxes1.size(dims - 2), m = boxes2.size(dims - 2);
  check(!aligned || n == m, "boxes2: expected as many as boxes1");
  check(mode >= 0 && mode <= static_cast<int64_t>(IouMode::iof), "mode: expected 0 to 4");
  return {boxes1.const_data_ptr(),
          boxes2.const_data_ptr(),
          dtype_of(boxes1),
          batch,
          n,
          m,
          static_cast<IouMode>(mode),
          aligned,
          static_cast<int>(pixel_offset)};
}

// Items per task such that a task has kPairsPerTask pairs.
int64_t grain(const BoxIouProblem& problem, int64_t items) {
  const int64_t pairs = problem.batch * problem.n * (problem.aligned ? 1 : problem.m);
  return pairs <= kPairsPerTask ? items : items * kPairsPerTask / pairs + 1;
}

Tensor box_iou_op(const Tensor& boxes1, const Tensor& boxes2, int64_t mode, bool aligned, int64_t pixel_offset) {
  const Tensor a = boxes_of(boxes1), b = boxes_of(boxes2);
  const BoxIouProblem problem = box_iou_problem(a, b, mode, aligned, pixel_offset);
  const auto rows = a.sizes();
  std::vector<int64_t> sizes(rows.begin(), rows.end() - 1);
  if (!aligned) sizes.push_back(problem.m);
  Tensor out = empty(sizes.data(), static_cast<int64_t>(sizes.size()), result_type(problem.dtype));
  void* data = out.mutable_data_ptr();
  const int64_t items = box_iou_items(problem);
  parallel(items, grain(problem, items), [&](int64_t begin, int64_t end) { box_iou(problem, data, begin, end); });
  return out;
}

Tensor box_iou_backward_side(const BoxIouProblem& problem, int side, const Tensor& grad, const Tensor& boxes) {
  Tensor out = empty_like(boxes, boxes.scalar_type());
  void* data = out.mutable_data_ptr();
  const int64_t items = box_iou_backward_items(problem, side);
  parallel(items, grain(problem, items), [&](int64_t begin, int64_t end) {
    box_iou_backward(problem, side, grad.const_data_ptr(), data, begin, end);
  });
  return out;
}

std::tuple<Tensor, Tensor> box_iou_backward_op(const Tensor& grad, const Tensor& boxes1, const Tensor& boxes2,
                                               int64_t mode, bool aligned, int64_t pixel_offset) {
  const Tensor a = boxes_of(boxes1), b = boxes_of(boxes2);
  const BoxIouProblem problem = box_iou_problem(a, b, mode, aligned, pixel_offset);
  const Tensor g = grad_of(grad, a, problem.batch * problem.n * (aligned ? 1 : problem.m));
  return {box_iou_backward_side(problem, 1, g, a), box_iou_backward_side(problem, 2, g, b)};
}

// Runs one of the two box_convert kernels over all boxes.
Tensor convert(BoxConvert* kernel, const Tensor& boxes, int64_t in_format, int64_t out_format) {
  check(in_format >= 0 && in_format <= 2 && out_format >= 0 && out_format <= 2, "format: expected 0, 1 or 2");
  const Tensor in = boxes_of(boxes);
  const DType dtype = dtype_of(in);
  Tensor out = empty_like(in, result_type(dtype));
  void* data = out.mutable_data_ptr();
  parallel(in.numel() / 4, kBoxesPerTask, [&](int64_t begin, int64_t end) {
    kernel(in.const_data_ptr(), dtype, static_cast<BoxFormat>(in_format), static_cast<BoxFormat>(out_format), data,
           begin, end);
  });
  return out;
}

Tensor box_convert_op(const Tensor& boxes, int64_t in_format, int64_t out_format) {
  return convert(box_convert, boxes, in_format, out_format);
}

Tensor box_convert_backward_op(const Tensor& grad, int64_t in_format, int64_t out_format) {
  check(is_floating(dtype_of(grad)), "grad: expected a floating dtype");
  return convert(box_convert_backward, grad, in_format, out_format);
}

Tensor box_area_op(const Tensor& boxes, int64_t pixel_offset) {
  const Tensor in = boxes_of(boxes);
  const DType dtype = dtype_of(in);
  Tensor out = empty(in.sizes().data(), in.dim() - 1, result_type(dtype));
  void* data = out.mutable_data_ptr();
  parallel(in.numel() / 4, kBoxesPerTask, [&](int64_t begin, int64_t end) {
    box_area(in.const_data_ptr(), dtype, static_cast<int>(pixel_offset), data, begin, end);
  });
  return out;
}

Tensor box_area_backward_op(const Tensor& grad, const Tensor& boxes, int64_t pixel_offset) {
  const Tensor in = boxes_of(boxes);
  const Tensor g = grad_of(grad, in, in.numel() / 4);
  Tensor out = empty_like(in, in.scalar_type());
  void* data = out.mutable_data_ptr();
  parallel(in.numel() / 4, kBoxesPerTask, [&](int64_t begin, int64_t end) {
    box_area_backward(g.const_data_ptr(), in.const_data_ptr(), dtype_of(in), static_cast<int>(pixel_offset), data,
                      begin, end);
  });
  return out;
}

Tensor clip_boxes_to_image_op(const Tensor& boxes, double height, double width) {
  const Tensor in = boxes_of(boxes);
  Tensor out = empty_like(in, in.scalar_type());
  void* data = out.mutable_data_ptr();
  parallel(in.numel() / 4, kBoxesPerTask, [&](int64_t begin, int64_t end) {
    clip_boxes_to_image(in.const_data_ptr(), dtype_of(in), height, width, data, begin, end);
  });
  return out;
}

Tensor clip_boxes_to_image_backward_op(const Tensor& grad, const Tensor& boxes, double height, double width) {
  const Tensor in = boxes_of(boxes);
  const Tensor g = grad_of(grad, in, in.numel());
  Tensor out = empty_like(in, in.scalar_type());
  void* data = out.mutable_data_ptr();
  parallel(in.numel() / 4, kBoxesPerTask, [&](int64_t begin, int64_t end) {
    clip_boxes_to_image_backward(g.const_data_ptr(), in.const_data_ptr(), dtype_of(in), height, width, data, begin,
                                 end);
  });
  return out;
}

Tensor remove_small_boxes_op(const Tensor& boxes, double min_size) {
  check(boxes.dim() == 2, "boxes: expected shape (N, 4)");
  const Tensor in = boxes_of(boxes);
  const int64_t count = in.size(0);
  const std::unique_ptr<int64_t[]> kept(new int64_t[count]);
  const int64_t left = remove_small_boxes(in.const_data_ptr(), dtype_of(in), count, min_size, kept.get());
  Tensor out = empty({left}, ScalarType::Long);
  std::copy(kept.get(), kept.get() + left, static_cast<int64_t*>(out.mutable_data_ptr()));
  return out;
}

Tensor masks_to_boxes_op(const Tensor& masks) {
  check(masks.dim() == 3, "masks: expected shape (N, H, W)");
  const Tensor in = as_contiguous(masks);
  const int64_t count = in.size(0), height = in.size(1), width = in.size(2);
  Tensor out = empty({count, 4}, ScalarType::Float);
  auto* data = static_cast<float*>(out.mutable_data_ptr());
  // The product of height and width may overflow where there is no mask.
  const int64_t pixels = in.numel() / std::max<int64_t>(count, 1);
  parallel(count, kPairsPerTask / (pixels + 1), [&](int64_t begin, int64_t end) {
    masks_to_boxes(in.const_data_ptr(), dtype_of(in), height, width, data, begin, end);
  });
  return out;
}

MaskPacking packing_of(const Tensor& masks) {
  const int64_t pixels = pixels_of_mask(masks.size(0), masks.numel());
  const Tensor dense = as_contiguous(masks);
  return MaskPacking(dense.const_data_ptr(), dtype_of(dense), dense.size(0), pixels,
                     [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); });
}

Tensor mask_iou_op(const Tensor& masks1, const Tensor& masks2) {
  check(masks1.dim() == 3 && masks2.dim() == 3, "masks1, masks2: expected shapes (N, H, W) and (M, H, W)");
  check(masks1.size(1) == masks2.size(1) && masks1.size(2) == masks2.size(2), "masks2: expected the size of masks1");
  const MaskPacking a = packing_of(masks1), b = packing_of(masks2);
  const int64_t n = masks1.size(0), m = masks2.size(0);
  Tensor out = empty({n, m}, ScalarType::Float);
  auto* const iou = static_cast<float*>(out.mutable_data_ptr());
  parallel(n, mask_iou_grain(a.packed(), m),
           [&](int64_t begin, int64_t end) { mask_iou(a.packed(), b.packed(), m, iou, begin, end); });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def("box_iou_native(Tensor boxes1, Tensor boxes2, int mode, bool aligned, int pixel_offset) -> Tensor");
  m.def(
      "box_iou_backward_native(Tensor grad, Tensor boxes1, Tensor boxes2, int mode, bool aligned, int pixel_offset) "
      "-> (Tensor, Tensor)");
  m.def("box_convert_native(Tensor boxes, int in_format, int out_format) -> Tensor");
  m.def("box_convert_backward_native(Tensor grad, int in_format, int out_format) -> Tensor");
  m.def("box_area_native(Tensor boxes, int pixel_offset) -> Tensor");
  m.def("box_area_backward_native(Tensor grad, Tensor boxes, int pixel_offset) -> Tensor");
  m.def("clip_boxes_to_image_native(Tensor boxes, float height, float width) -> Tensor");
  m.def("clip_boxes_to_image_backward_native(Tensor grad, Tensor boxes, float height, float width) -> Tensor");
  m.def("remove_small_boxes_native(Tensor boxes, float min_size) -> Tensor");
  m.def("masks_to_boxes_native(Tensor masks) -> Tensor");
  m.def("mask_iou_native(Tensor masks1, Tensor masks2) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("box_iou_native", TORCH_BOX(&box_iou_op));
  m.impl("box_iou_backward_native", TORCH_BOX(&box_iou_backward_op));
  m.impl("box_convert_native", TORCH_BOX(&box_convert_op));
  m.impl("box_convert_backward_native", TORCH_BOX(&box_convert_backward_op));
  m.impl("box_area_native", TORCH_BOX(&box_area_op));
  m.impl("box_area_backward_native", TORCH_BOX(&box_area_backward_op));
  m.impl("clip_boxes_to_image_native", TORCH_BOX(&clip_boxes_to_image_op));
  m.impl("clip_boxes_to_image_backward_native", TORCH_BOX(&clip_boxes_to_image_backward_op));
  m.impl("remove_small_boxes_native", TORCH_BOX(&remove_small_boxes_op));
  m.impl("masks_to_boxes_native", TORCH_BOX(&masks_to_boxes_op));
  m.impl("mask_iou_native", TORCH_BOX(&mask_iou_op));
}

}  // namespace visionops
