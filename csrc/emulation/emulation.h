// The part of CUDA that the kernels use, on the CPU: the same .cu files run here where there is no GPU.
//
// The threads of a block are fibers, of which one runs at a time until it waits; which one is next is drawn from a
// seed, and so is the order of blocks. Shared memory holds garbage when a block begins. A barrier too few therefore
// shows as a wrong result, and one that some threads do not reach as an error. What it cannot show: races between
// blocks, and lanes of a warp that rely on running in step without saying so.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __grid_constant__
#define __device__
#define __host__
#define VISIONOPS_SHARED(Type, name) Type& name = *static_cast<Type*>(emulation::shared(sizeof(Type), __LINE__))
#define __syncthreads() ::visionops::emulation::wait_for_block(::visionops::emulation::place(__FILE_NAME__, __LINE__))
#define threadIdx ::visionops::emulation::thread_index
#define blockIdx ::visionops::emulation::block_index
#define gridDim ::visionops::emulation::grid_size

namespace visionops::emulation {

struct Index {
  unsigned x;
};

/// Of the fiber that runs.
extern Index thread_index, block_index, grid_size;

/// Runs a kernel to its end: `blocks` blocks of `threads` threads, a multiple of 32.
void run(int64_t blocks, int threads, const std::function<void()>& kernel);

/// Memory of the running block that the variable declared at `line` names; 64-byte aligned.
void* shared(size_t bytes, int line);

/// A number for a line of a source file.
constexpr int64_t place(const char* file, int line) {
  uint64_t number = static_cast<uint64_t>(line);
  for (; *file != 0; ++file) number = (number * 31 + static_cast<uint64_t>(*file)) % (uint64_t{1} << 40);
  return static_cast<int64_t>(number);
}

/// __syncthreads() at this place.
void wait_for_block(int64_t place);

/// Waits for the lanes of the warp that have not ended, and returns what they brought.
struct Lanes {
  uint64_t values[32];
  uint32_t present;
};
const Lanes& exchange(uint64_t value);

/// Draws another order of threads and blocks.
void set_seed(uint64_t seed);

/// The barrier at this place does nothing: -1 for none. Tests show with it that every barrier is needed.
void skip_barrier(int64_t place);

}  // namespace visionops::emulation

inline uint32_t __ballot_sync(uint32_t, bool vote) {
  const auto& lanes = visionops::emulation::exchange(vote);
  uint32_t votes = 0;
  for (int i = 0; i < 32; ++i) votes |= static_cast<uint32_t>(lanes.values[i]) << i;
  return votes & lanes.present;
}

template <class T>
T __shfl_sync(uint32_t, T value, int lane) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  const uint64_t theirs = visionops::emulation::exchange(bits).values[lane & 31];
  memcpy(&value, &theirs, sizeof value);
  return value;
}

inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }

inline int __ffs(uint32_t bits) { return __builtin_ffs(static_cast<int>(bits)); }

/// Blocks and threads run one at a time.
template <class T>
T atomicAdd(T* place, T value) {
  const T before = *place;
  *place += value;
  return before;
}

template <class T>
T atomicMax(T* place, T value) {
  const T before = *place;
  if (value > before) *place = value;
  return before;
}
