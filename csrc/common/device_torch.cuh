// What glue for a GPU adds to stable_torch.h: results on a tensor's device, its stream and its guard.
#pragma once

#include <initializer_list>
#include <vector>

#include "common/launch.cuh"
#include "common/stable_torch.h"

#ifndef VISIONOPS_EMULATION
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#endif

namespace visionops::VISIONOPS_ISA {

/// A new contiguous tensor on the device of another.
inline Tensor empty_on(const Tensor& other, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(other, std::vector<int64_t>(sizes), dtype);
}

/// A new image (B, C, H, W) on the device of another tensor, in memory as (B, H, W, C) if `channels_last`.
inline Tensor empty_image_on(const Tensor& other, int64_t batch, int64_t channels, int64_t height, int64_t width,
                             bool channels_last, ScalarType dtype) {
  if (!channels_last) return empty_on(other, {batch, channels, height, width}, dtype);
  const Tensor last = empty_on(other, {batch, height, width, channels}, dtype);
  return torch::stable::transpose(torch::stable::transpose(last, 1, 3), 2, 3);
}

#ifdef VISIONOPS_EMULATION

struct DeviceGuard {
  explicit DeviceGuard(const Tensor&) {}
};

inline Stream current_stream(const Tensor&) { return nullptr; }

#else

/// Makes a tensor's device the current one while it lives.
struct DeviceGuard {
  explicit DeviceGuard(const Tensor& tensor) : guard(tensor.get_device_index()) {}
  torch::stable::accelerator::DeviceGuard guard;
};

/// The stream that torch queues work of a tensor's device on.
inline Stream current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<Stream>(stream);
}

#endif

}  // namespace visionops::VISIONOPS_ISA
