// What the NumPy module's files share: dtypes, pointers of contiguous arrays, and threads without torch.
//
// The Python side hands over C-contiguous, aligned arrays of native byte order; these functions branch on the dtype
// themselves, for pybind11's typed arrays would convert float16 and strided inputs to float64 without a word.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#include "common/dtype.h"

namespace visionops {

namespace py = pybind11;

inline DType dtype_of(const py::array& array) {
  const char kind = array.dtype().kind();
  const auto bytes = array.itemsize();
  if (kind == 'f') return bytes == 8 ? DType::f64 : bytes == 4 ? DType::f32 : DType::f16;
  if (kind == 'u') return DType::u8;
  if (kind == 'b') return DType::b8;
  return bytes == 8 ? DType::i64 : bytes == 4 ? DType::i32 : bytes == 2 ? DType::i16 : DType::i8;
}

/// NumPy's name of the dtype of a result over numbers like these.
inline py::dtype result_dtype(const py::array& array) {
  switch (result_dtype(dtype_of(array))) {
    case DType::f64: return py::dtype::of<double>();
    case DType::f16: return array.dtype();
    default: return py::dtype::of<float>();
  }
}

/// The sizes of an array without its last `dropped` dimensions.
inline std::vector<py::ssize_t> leading_sizes(const py::array& array, py::ssize_t dropped) {
  return {array.shape(), array.shape() + array.ndim() - dropped};
}

inline int64_t& thread_count() {
  static int64_t count = 1;
  return count;
}

/// Calls body(begin, end) over [0, count), on thread_count() threads of this module's own if there is more work than
/// `grain` items. Threads end with the call: a process that forks afterwards has none to miss. What the body throws is
/// thrown once all have ended.
template <class Body>
inline void parallel(int64_t count, int64_t grain, const Body& body) {
  const int64_t tasks = std::min<int64_t>(thread_count(), grain > 0 ? (count + grain - 1) / grain : count);
  if (tasks <= 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  std::vector<std::exception_ptr> failures(tasks);
  const auto run = [&](int64_t task) {
    try {
      body(count * task / tasks, count * (task + 1) / tasks);
    } catch (...) {
      failures[task] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(tasks);
  int64_t mine = tasks;
  try {
    for (; mine > 1; --mine) threads.emplace_back(run, mine - 1);
  } catch (const std::exception&) {
    // The machine gives no more threads: this one does what they would have done.
  }
  for (int64_t task = 0; task < mine; ++task) run(task);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

void register_boxes(py::module_& m);
void register_roi(py::module_& m);
void register_suppression(py::module_& m);

}  // namespace visionops
