// Which element a thread of the pooling kernels works on.
#pragma once

#include "common/launch.cuh"
#include "pool/pool_shape.h"

namespace visionops::VISIONOPS_ISA {

constexpr int kPoolThreads = 256;

__device__ inline int64_t pool_thread() { return static_cast<int64_t>(blockIdx.x) * kPoolThreads + threadIdx.x; }

/// An element of dense (outer, rows, columns, inner).
struct PoolPlace {
  int64_t outer, row, column, channel;

  __device__ PoolPlace(int64_t element, int64_t rows, int64_t columns, int64_t inner) {
    if (element < int64_t{1} << 32) {
      split<uint32_t>(element, rows, columns, inner);
    } else {
      split<uint64_t>(element, rows, columns, inner);
    }
  }

 private:
  template <class Index>
  __device__ void split(int64_t element, int64_t rows, int64_t columns, int64_t inner) {
    const auto pixel = static_cast<Index>(element) / static_cast<Index>(inner);
    const auto line = pixel / static_cast<Index>(columns);
    channel = static_cast<Index>(element) - pixel * static_cast<Index>(inner);
    column = pixel - line * static_cast<Index>(columns);
    outer = line / static_cast<Index>(rows);
    row = line - static_cast<Index>(outer) * static_cast<Index>(rows);
  }
};

/// Starts a thread for each of `count` elements.
template <class... Parameters, class... Arguments>
void launch_over(void (*kernel)(Parameters...), int64_t count, Stream stream, Arguments... arguments) {
  launch(kernel, blocks_of(count, kPoolThreads), kPoolThreads, stream, arguments...);
}

}  // namespace visionops::VISIONOPS_ISA
