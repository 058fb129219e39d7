// Calls of room `boxes` past the dispatcher.
#include "boxes/box_iou.h"

#include "direct/direct.h"

namespace visionops {

// As many as one thread computes.
constexpr int64_t kMostPairs = 32768;

// (boxes1, boxes2, mode, aligned, pixel_offset), of which mode and pixel_offset are checked.
PyObject* box_iou_call(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 5 || !nobody_listens(args, 2)) Py_RETURN_NONE;
  const std::optional<Plain> boxes1 = plain(args[0]), boxes2 = plain(args[1]);
  if (!boxes1 || !boxes2 || !boxes1->is_boxes() || !boxes2->is_boxes() || boxes1->dtype != boxes2->dtype) {
    Py_RETURN_NONE;
  }
  const int64_t n = boxes1->sizes[0], m = boxes2->sizes[0];
  const int aligned = PyObject_IsTrue(args[3]);
  if (aligned < 0) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  if (aligned ? n != m || n > kMostPairs : m > 0 && n > kMostPairs / m) Py_RETURN_NONE;
  const BoxIouProblem problem{boxes1->data,
                              boxes2->data,
                              boxes1->dtype,
                              1,
                              n,
                              m,
                              static_cast<IouMode>(PyLong_AsLong(args[2])),
                              aligned != 0,
                              static_cast<int>(PyLong_AsLong(args[4]))};
  const DType dtype = result_dtype(boxes1->dtype);
  Result out = aligned ? empty({n}, dtype) : empty({n, m}, dtype);
  if (out.tensor != nullptr) box_iou(problem, out.data, 0, box_iou_items(problem));
  return out.tensor.release();
}

}  // namespace visionops
