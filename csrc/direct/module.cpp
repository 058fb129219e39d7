// The module visionops._direct._calls: what it asks of torch, how it reads and makes tensors, and its contents.
#include <ATen/dlpack.h>

#include "direct/direct.h"

namespace visionops {
namespace {

// What connect() was given. It lives as long as the process, as torch does.
struct Torch {
  PyTypeObject* tensor = nullptr;
  decltype(DLPackExchangeAPI::dltensor_from_py_object_no_sync) view = nullptr;
  PyObject* requires_grad = nullptr;    // Tensor.requires_grad, a descriptor
  PyObject* is_neg = nullptr;           // Tensor.is_neg
  PyObject* listeners = nullptr;        // functions without arguments: whether somebody listens
  PyObject* has_function = nullptr;     // likewise of any arguments: a mode, or a subclass among them
  PyObject* forward_ad = nullptr;       // torch.autograd.forward_ad
  PyObject* is_grad_enabled = nullptr;  // a function without arguments
  PyObject* empty = nullptr;            // torch.empty
  PyObject* keywords = nullptr;         // its keyword arguments for each DType
};

Torch torch;

PyObject* const kCurrentLevel = PyUnicode_InternFromString("_current_level");

// Whether an answer is true; an exception is as good as a yes, for each question here is a reason to step aside.
bool is_true(PyObject* answer) {
  const Object owned(answer);
  const int truth = answer == nullptr ? -1 : PyObject_IsTrue(answer);
  if (truth < 0) PyErr_Clear();
  return truth != 0;
}

// Whether forward-mode gradients are computed: their level is 0 or more.
bool is_dual() {
  const Object level(PyObject_GetAttr(torch.forward_ad, kCurrentLevel));
  const long value = level == nullptr ? -1 : PyLong_AsLong(level.get());
  if (PyErr_Occurred() == nullptr) return value >= 0;
  PyErr_Clear();
  return true;
}

std::optional<DType> dtype_of(DLDataType type) {
  if (type.lanes != 1) return std::nullopt;
  switch (type.code << 8 | type.bits) {
    case kDLFloat << 8 | 64: return DType::f64;
    case kDLFloat << 8 | 32: return DType::f32;
    case kDLFloat << 8 | 16: return DType::f16;
    case kDLBfloat << 8 | 16: return DType::bf16;
    case kDLUInt << 8 | 8: return DType::u8;
    case kDLInt << 8 | 8: return DType::i8;
    case kDLInt << 8 | 16: return DType::i16;
    case kDLInt << 8 | 32: return DType::i32;
    case kDLInt << 8 | 64: return DType::i64;
    default: return std::nullopt;
  }
}

bool is_dense(const DLTensor& view) {
  int64_t expected = 1;
  for (int d = view.ndim - 1; d >= 0; --d) {
    if (view.shape[d] == 0) return true;
    if (view.shape[d] != 1 && view.strides[d] != expected) return false;
    expected *= view.shape[d];
  }
  return true;
}

void* memory(const DLTensor& view) { return static_cast<char*>(view.data) + view.byte_offset; }

PyObject* connect(PyObject*, PyObject* args) {
  PyObject* tensor;
  Torch found;
  if (!PyArg_ParseTuple(args, "O!O!OOOOO!", &PyType_Type, &tensor, &PyTuple_Type, &found.listeners, &found.has_function,
                        &found.forward_ad, &found.is_grad_enabled, &found.empty, &PyTuple_Type, &found.keywords)) {
    return nullptr;
  }
  found.requires_grad = PyObject_GetAttrString(tensor, "requires_grad");
  found.is_neg = PyObject_GetAttrString(tensor, "is_neg");
  const Object capsule(PyObject_GetAttrString(tensor, "__dlpack_c_exchange_api__"));
  if (found.requires_grad == nullptr || found.is_neg == nullptr || capsule == nullptr) return nullptr;
  const auto* api = static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule.get(), "dlpack_exchange_api"));
  if (api == nullptr) return nullptr;
  if (api->header.version.major != DLPACK_MAJOR_VERSION) {
    PyErr_Format(PyExc_RuntimeError, "expected DLPack %d, got %u", DLPACK_MAJOR_VERSION, api->header.version.major);
    return nullptr;
  }
  found.tensor = reinterpret_cast<PyTypeObject*>(tensor);
  found.view = api->dltensor_from_py_object_no_sync;
  for (PyObject* kept : {tensor, found.listeners, found.has_function, found.forward_ad, found.is_grad_enabled,
                         found.empty, found.keywords}) {
    Py_INCREF(kept);
  }
  torch = found;
  Py_RETURN_NONE;
}

PyMethodDef contents[] = {
    {"connect", connect, METH_VARARGS, nullptr},
    {"box_iou", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(box_iou_call)), METH_FASTCALL, nullptr},
    {"nms", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(nms_call)), METH_FASTCALL, nullptr},
    {},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_calls", nullptr, -1, contents, nullptr, nullptr, nullptr, nullptr};

}  // namespace

bool nobody_listens(PyObject* const* tensors, size_t count) {
  if (torch.view == nullptr || is_dual()) return false;
  if (is_true(PyObject_Vectorcall(torch.has_function, tensors, count, nullptr))) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(torch.listeners); ++i) {
    if (is_true(PyObject_CallNoArgs(PyTuple_GET_ITEM(torch.listeners, i)))) return false;
  }
  return true;
}

std::optional<Plain> plain(PyObject* tensor) {
  if (Py_TYPE(tensor) != torch.tensor) return std::nullopt;
  if (is_true(Py_TYPE(torch.requires_grad)->tp_descr_get(torch.requires_grad, tensor, nullptr)) &&
      is_true(PyObject_CallNoArgs(torch.is_grad_enabled))) {
    return std::nullopt;
  }
  // The memory of a negated view holds what is still to be negated.
  if (is_true(PyObject_CallOneArg(torch.is_neg, tensor))) return std::nullopt;
  DLTensor view;
  if (torch.view(tensor, &view) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  const std::optional<DType> dtype = dtype_of(view.dtype);
  if (view.device.device_type != kDLCPU || !dtype || view.ndim > Plain::kMostDims || !is_dense(view)) {
    return std::nullopt;
  }
  Plain found{memory(view), *dtype, view.ndim, {}};
  for (int d = 0; d < view.ndim; ++d) found.sizes[d] = view.shape[d];
  return found;
}

Result empty(std::initializer_list<int64_t> sizes, DType dtype) {
  Object numbers[Plain::kMostDims];
  PyObject* args[Plain::kMostDims];
  // The sizes one by one: torch takes twice as long to see that a tuple holds integers.
  size_t dims = 0;
  for (const int64_t size : sizes) {
    numbers[dims].reset(PyLong_FromLongLong(size));
    if (numbers[dims] == nullptr) return {};
    args[dims] = numbers[dims].get();
    ++dims;
  }
  DLTensor view;
  const auto make = [&](PyObject* keywords) -> Result {
    Object tensor(PyObject_VectorcallDict(torch.empty, args, dims, keywords));
    if (tensor == nullptr || torch.view(tensor.get(), &view) != 0) return {};
    return {std::move(tensor), memory(view)};
  };
  if (dtype == DType::f32) {
    // Nearly always what torch makes without keywords, and to read these takes it a third of the time of the rest.
    Result usual = make(nullptr);
    if (usual.tensor == nullptr || (dtype_of(view.dtype) == dtype && view.device.device_type == kDLCPU)) return usual;
  }
  return make(PyTuple_GET_ITEM(torch.keywords, static_cast<Py_ssize_t>(dtype)));
}

}  // namespace visionops

PyMODINIT_FUNC PyInit__calls() { return PyModule_Create(&visionops::definition); }
