// What kernels on RoIs share: which value a thread has, which RoIs may give something to a block's values, and sums
// that several threads add to.
#pragma once

#include "roi/roi_box.h"
#include "roi/roi_cuda.h"

namespace visionops::VISIONOPS_ISA {

#ifdef VISIONOPS_EMULATION
constexpr int kRoiThreads = 64;  // several warps, and few enough that tests have many blocks
#else
constexpr int kRoiThreads = 128;
#endif

/// Values of the result.
inline int64_t result_values(const RoiProblem& problem) {
  return problem.rois * problem.channels * problem.pooled_height * problem.pooled_width;
}

/// Calls run(Tag<T>, Tag<B>) with the types of the maps and the boxes.
template <class Run>
void visit_types(const RoiProblem& problem, const Run& run) {
  visit_floating(problem.dtype,
                 [&](auto map) { visit_floating(problem.boxes_dtype, [&](auto box) { run(map, box); }); });
}

/// By RoI, what a gradient's kernel asks for first.
struct RoiRows {
  int64_t image;        // -1: the RoI gives nothing
  int32_t first, last;  // rows [first, last) that it may give something to
};

/// Where value i of (count, channels, height, width) lies: i counts in the order of memory.
struct Place {
  int64_t outer, channel, y, x;
};

VISIONOPS_HD inline Place place_of(int64_t i, int64_t channels, int64_t height, int64_t width, bool channels_last) {
  if (channels_last)
    return {i / (channels * width * height), i % channels, i / (channels * width) % height, i / channels % width};
  return {i / (width * height * channels), i / (width * height) % channels, i / width % height, i % width};
}

VISIONOPS_HD inline int64_t offset_of(const Place& at, int64_t channels, int64_t height, int64_t width,
                                      bool channels_last) {
  if (channels_last) return ((at.outer * height + at.y) * width + at.x) * channels + at.channel;
  return ((at.outer * channels + at.channel) * height + at.y) * width + at.x;
}

/// One value of a result or its gradient.
template <class T>
VISIONOPS_HD inline Compute<T> value_at(const RoiResult& result, int64_t k, int64_t channel, int64_t p, int64_t q) {
  return to_compute(static_cast<const T*>(result.data)[k * result.strides[0] + channel * result.strides[1] +
                                                       p * result.strides[2] + q * result.strides[3]]);
}

/// The part of a map's gradient that a block writes: images and rows, each from the first to the last.
struct BlockRows {
  int64_t first_image, last_image, first_row, last_row;
};

VISIONOPS_HD inline BlockRows rows_of_block(int64_t begin, int64_t end, int64_t channels, int64_t height, int64_t width,
                                            bool channels_last) {
  const Place first = place_of(begin, channels, height, width, channels_last);
  const Place last = place_of(end - 1, channels, height, width, channels_last);
  const bool one_run = first.outer == last.outer && (channels_last || first.channel == last.channel);
  return {first.outer, last.outer, one_run ? first.y : 0, one_run ? last.y : height - 1};
}

/// A bit for each of as many RoIs as a block has threads.
struct Hits {
  uint32_t words[kRoiThreads / kWarp];
};

/// Whether a RoI may give something to a block.
VISIONOPS_HD inline bool may_hit(const RoiRows& roi, const BlockRows& block) {
  return roi.image >= block.first_image && roi.image <= block.last_image && roi.first <= block.last_row &&
         roi.last > block.first_row;
}

/// Calls visit(k) for the RoIs of which asked(k) is true, in ascending order; the whole block asks and visits.
template <class MayHit, class Visit>
__device__ void visit_hits(int64_t rois, Hits& hits, const MayHit& asked, const Visit& visit) {
  for (int64_t first = 0; first < rois; first += kRoiThreads) {
    const int64_t mine = first + threadIdx.x;
    const uint32_t votes = __ballot_sync(~0u, mine < rois && asked(mine));
    if (threadIdx.x % kWarp == 0) hits.words[threadIdx.x / kWarp] = votes;
    __syncthreads();
    for (int warp = 0; warp < kRoiThreads / kWarp; ++warp) {
      for (uint32_t left = hits.words[warp]; left != 0; left &= left - 1) visit(first + warp * kWarp + __ffs(left) - 1);
    }
    __syncthreads();
  }
}

/// Bytes of the sums that atomics add to: none where they are made in the gradient itself, which of 16 bits they are
/// not.
template <class T>
int64_t sum_bytes(int64_t count) {
  return std::is_same_v<T, Compute<T>> ? 0 : blocks_of(count * int64_t{sizeof(Compute<T>)}, 256) * 256;
}

/// The sums, zeros as yet: of a gradient of `count` values, with sum_bytes() of scratch.
template <class T>
Compute<T>* zeroed_sums(T* grad_input, void* scratch, int64_t count, Stream stream) {
  void* const sums = sum_bytes<T>(count) == 0 ? static_cast<void*>(grad_input) : scratch;
  zero_on_device(sums, count * int64_t{sizeof(Compute<T>)}, stream);
  return static_cast<Compute<T>*>(sums);
}

/// A thread per value of the gradient.
template <class T>
__global__ void narrow_sums(const Compute<T>* sums, T* grad_input, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i < count) grad_input[i] = from_compute<T>(sums[i]);
}

/// Writes the gradient, if it is not its sums.
template <class T>
void finish_sums(const Compute<T>* sums, T* grad_input, int64_t count, Stream stream) {
  if (sum_bytes<T>(count) == 0) return;
  launch(narrow_sums<T>, blocks_of(count, kRoiThreads), kRoiThreads, stream, sums, grad_input, count);
}

}  // namespace visionops::VISIONOPS_ISA
