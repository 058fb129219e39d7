// Calls of room `suppression` past the dispatcher.
#include "direct/direct.h"
#include "suppression/suppression_run.h"

namespace visionops {

// Beyond so many the kernel costs more than the dispatcher, and threads have work.
constexpr int64_t kMostBoxes = 512;

// (boxes, scores, iou_threshold, pixel_offset), of which the last two are checked.
PyObject* nms_call(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 4 || !nobody_listens(args, 2)) Py_RETURN_NONE;
  const std::optional<Plain> boxes = plain(args[0]), scores = plain(args[1]);
  if (!boxes || !scores || !boxes->is_boxes() || scores->dims != 1 || !is_floating(scores->dtype)) Py_RETURN_NONE;
  const int64_t n = boxes->sizes[0];
  if (scores->sizes[0] != n || n > kMostBoxes) Py_RETURN_NONE;
  const Candidates candidates{boxes->data,
                              scores->data,
                              nullptr,
                              boxes->dtype,
                              scores->dtype,
                              1,
                              n,
                              0,
                              false,
                              n,
                              static_cast<int>(PyLong_AsLong(args[3])),
                              false};
  try {
    const SuppressionRun run(NmsProblem{{candidates}, PyFloat_AsDouble(args[2]), false},
                             [](int64_t tasks, int64_t, const auto& body) { body(int64_t{0}, tasks); });
    Result kept = empty({run.count(0)}, DType::i64);
    if (kept.tensor != nullptr) run.collect(0, static_cast<int64_t*>(kept.data));
    return kept.tensor.release();
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

}  // namespace visionops
