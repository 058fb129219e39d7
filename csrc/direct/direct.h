// Tensors to pointers past torch's dispatcher, for calls so small that it would cost more than their kernel.
//
// The dispatcher is where others listen: autograd, transforms, modes, tracers, the profiler. So a function here
// computes only if nobody does and its tensors are plain ones; of everything else, errors too, it says None and leaves
// it to the torch operation. Tensors are read by DLPack's exchange API, a table of C functions that torch has from 2.10
// on.
#pragma once

#include <Python.h>

#include <initializer_list>
#include <memory>
#include <optional>

#include "common/dtype.h"

namespace visionops {

struct Release {
  void operator()(PyObject* object) const { Py_DECREF(object); }
};

/// A reference that is given back.
using Object = std::unique_ptr<PyObject, Release>;

/// A dense tensor of numbers on the CPU, as long as Python's object lives.
struct Plain {
  static constexpr int kMostDims = 2;

  const void* data;
  DType dtype;
  int dims;
  int64_t sizes[kMostDims];

  bool is_boxes() const { return dims == 2 && sizes[1] == 4; }
};

/// Whether nothing would notice that a call of these tensors goes past the dispatcher.
bool nobody_listens(PyObject* const* tensors, size_t count);

/// The tensor if it is one, of no subclass, dense and at most as many-dimensional as Plain holds, and no gradient of
/// what is computed from it may be asked for.
std::optional<Plain> plain(PyObject* tensor);

/// A new tensor on the CPU and its memory; null with Python's exception set.
struct Result {
  Object tensor;
  void* data;
};
Result empty(std::initializer_list<int64_t> sizes, DType dtype);

/// The functions of this module, each (arguments, their number) to a tensor, None, or null with Python's exception set.
PyObject* box_iou_call(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* nms_call(PyObject*, PyObject* const* args, Py_ssize_t count);

}  // namespace visionops
