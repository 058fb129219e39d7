// Arrays to pointers for room `boxes`.
#include "boxes/box_area.h"
#include "boxes/box_convert.h"
#include "boxes/box_iou.h"
#include "boxes/clip_boxes_to_image.h"
#include "boxes/mask_packing.h"
#include "boxes/masks_to_boxes.h"
#include "boxes/remove_small_boxes.h"
#include "numpy/arrays.h"

namespace visionops {
namespace {

constexpr int64_t kBoxesPerTask = 16384;

py::array box_iou_array(const py::array& boxes1, const py::array& boxes2, int mode, bool aligned, int pixel_offset) {
  const int64_t n = boxes1.shape(boxes1.ndim() - 2), m = boxes2.shape(boxes2.ndim() - 2);
  std::vector<py::ssize_t> sizes = leading_sizes(boxes1, 1);
  const int64_t batch = n > 0 ? boxes1.size() / (4 * n) : 0;
  if (!aligned) sizes.push_back(m);
  py::array out(result_dtype(boxes1), sizes);
  const BoxIouProblem problem{boxes1.data(), boxes2.data(), dtype_of(boxes1), batch, n, m, static_cast<IouMode>(mode),
                              aligned,       pixel_offset};
  void* data = out.mutable_data();
  py::gil_scoped_release released;
  parallel(box_iou_items(problem), 1, [&](int64_t begin, int64_t end) { box_iou(problem, data, begin, end); });
  return out;
}

py::array box_convert_array(const py::array& boxes, int in_format, int out_format) {
  py::array out(result_dtype(boxes), leading_sizes(boxes, 0));
  const DType dtype = dtype_of(boxes);
  void* data = out.mutable_data();
  py::gil_scoped_release released;
  parallel(boxes.size() / 4, kBoxesPerTask, [&](int64_t begin, int64_t end) {
    box_convert(boxes.data(), dtype, static_cast<BoxFormat>(in_format), static_cast<BoxFormat>(out_format), data, begin,
                end);
  });
  return out;
}

py::array box_area_array(const py::array& boxes, int pixel_offset) {
  py::array out(result_dtype(boxes), leading_sizes(boxes, 1));
  const DType dtype = dtype_of(boxes);
  void* data = out.mutable_data();
  py::gil_scoped_release released;
  parallel(boxes.size() / 4, kBoxesPerTask,
           [&](int64_t begin, int64_t end) { box_area(boxes.data(), dtype, pixel_offset, data, begin, end); });
  return out;
}

py::array clip_boxes_to_image_array(const py::array& boxes, double height, double width) {
  py::array out(boxes.dtype(), leading_sizes(boxes, 0));
  const DType dtype = dtype_of(boxes);
  void* data = out.mutable_data();
  py::gil_scoped_release released;
  parallel(boxes.size() / 4, kBoxesPerTask, [&](int64_t begin, int64_t end) {
    clip_boxes_to_image(boxes.data(), dtype, height, width, data, begin, end);
  });
  return out;
}

py::array_t<int64_t> remove_small_boxes_array(const py::array& boxes, double min_size) {
  const int64_t count = boxes.shape(0);
  std::vector<int64_t> kept(static_cast<size_t>(count));
  int64_t left;
  {
    py::gil_scoped_release released;
    left = remove_small_boxes(boxes.data(), dtype_of(boxes), count, min_size, kept.data());
  }
  return py::array_t<int64_t>(left, kept.data());
}

py::array_t<float> masks_to_boxes_array(const py::array& masks) {
  const int64_t count = masks.shape(0), height = masks.shape(1), width = masks.shape(2);
  py::array_t<float> out({count, int64_t{4}});
  const DType dtype = dtype_of(masks);
  float* data = out.mutable_data();
  py::gil_scoped_release released;
  parallel(count, 1,
           [&](int64_t begin, int64_t end) { masks_to_boxes(masks.data(), dtype, height, width, data, begin, end); });
  return out;
}

py::array_t<float> mask_iou_array(const py::array& masks1, const py::array& masks2) {
  const int64_t n = masks1.shape(0), m = masks2.shape(0);
  const int64_t pixels = n > 0 ? pixels_of_mask(n, masks1.size()) : pixels_of_mask(m, masks2.size());
  py::array_t<float> out({n, m});
  float* const iou = out.mutable_data();
  const DType dtype1 = dtype_of(masks1), dtype2 = dtype_of(masks2);
  py::gil_scoped_release released;
  const auto on_threads = [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); };
  const MaskPacking a(masks1.data(), dtype1, n, pixels, on_threads), b(masks2.data(), dtype2, m, pixels, on_threads);
  parallel(n, mask_iou_grain(a.packed(), m),
           [&](int64_t begin, int64_t end) { mask_iou(a.packed(), b.packed(), m, iou, begin, end); });
  return out;
}

}  // namespace

void register_boxes(py::module_& m) {
  m.def("box_iou", &box_iou_array);
  m.def("box_convert", &box_convert_array);
  m.def("box_area", &box_area_array);
  m.def("clip_boxes_to_image", &clip_boxes_to_image_array);
  m.def("remove_small_boxes", &remove_small_boxes_array);
  m.def("masks_to_boxes", &masks_to_boxes_array);
  m.def("mask_iou", &mask_iou_array);
}

}  // namespace visionops
