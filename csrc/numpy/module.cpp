// The module visionops.numpy._kernels: the compiled kernels for NumPy arrays, without torch.
#include "common/target.h"
#include "numpy/arrays.h"

namespace visionops {

PYBIND11_MODULE(_kernels, m) {
  m.def("isa", [] { return static_cast<int>(selected_isa()); });
  m.def("get_num_threads", [] { return thread_count(); });
  m.def("set_num_threads", [](int64_t count) { thread_count() = count; });
  register_boxes(m);
  register_roi(m);
  register_suppression(m);
}

}  // namespace visionops
