// How kernels start, wait and share memory: by CUDA, or by the emulation of it that csrc/emulation builds with g++.
#pragma once

#include <cstdint>

#include "common/target.h"

#ifdef VISIONOPS_EMULATION
#include "emulation/emulation.h"
#else
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

/// A variable that the threads of a block share.
#define VISIONOPS_SHARED(Type, name) __shared__ Type name
#endif

namespace visionops::VISIONOPS_ISA {

constexpr int kWarp = 32;

#ifdef VISIONOPS_EMULATION

using Stream = void*;

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, Stream, Arguments... arguments) {
  emulation::run(blocks, threads, [&] { kernel(arguments...); });
}

inline void copy_to_host(void* to, const void* from, int64_t bytes, Stream) { memcpy(to, from, bytes); }

inline void copy_on_device(void* to, const void* from, int64_t bytes, Stream) {
  if (bytes > 0) memcpy(to, from, bytes);
}

inline void zero_on_device(void* memory, int64_t bytes, Stream) {
  if (bytes > 0) memset(memory, 0, bytes);
}

#else

using Stream = cudaStream_t;

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

/// Starts `blocks` blocks of `threads` threads; none if there are no blocks.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, Stream stream, Arguments... arguments) {
  if (blocks == 0) return;
  // clang-format off
  kernel<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(arguments...);
  // clang-format on
  check(cudaGetLastError());
}

/// Waits for the stream.
inline void copy_to_host(void* to, const void* from, int64_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
}

inline void copy_on_device(void* to, const void* from, int64_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}

inline void zero_on_device(void* memory, int64_t bytes, Stream stream) {
  check(cudaMemsetAsync(memory, 0, bytes, stream));
}

#endif

/// Blocks of `size` that hold `count` items.
VISIONOPS_HD constexpr int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

}  // namespace visionops::VISIONOPS_ISA
