// Kernels before suppression: keys that sort boxes by score and class, and the segments that come out.
#pragma once

#include "common/box.h"
#include "common/dtype.h"
#include "common/launch.cuh"
#include "common/sort.h"

namespace visionops::VISIONOPS_ISA {

#ifdef VISIONOPS_EMULATION
constexpr int kThreads = 96;  // three warps: the least for which every barrier matters
#else
constexpr int kThreads = 256;
#endif

/// A box as one or two loads of 16 bytes.
template <class C>
struct alignas(16) Packed {
  Box<C> box;
};

/// Boxes of one class in one image: places [begin, end) of the order by image, class and score.
struct Segment {
  int32_t begin, end;
};

inline __device__ int64_t thread_number() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

template <class T>
__device__ Box<Compute<T>> load_box(const T* box) {
  return {to_compute(box[0]), to_compute(box[1]), to_compute(box[2]), to_compute(box[3])};
}

static __global__ void clear(int32_t* values, int64_t count) {
  if (thread_number() < count) values[thread_number()] = 0;
}

template <class T>
__global__ void mark_ordered(const T* boxes, uint8_t* ordered, int64_t count) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const auto box = load_box(boxes + 4 * i);
  ordered[i] = box.x1 == box.x1 && box.y1 == box.y1 && box.x2 == box.x2 && box.y2 == box.y2;
}

/// Keys that ascend as scores descend, those of boxes that take no part last, and the image above a narrow score.
template <class S>
__global__ void score_keys(const S* scores, int64_t count, int64_t n, Compute<S> threshold, bool has_threshold,
                           bool not_negative, uint8_t* ordered, uint64_t* keys, int32_t* values) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const auto score = to_compute(scores[i]);
  const bool passes = has_threshold ? score > threshold : score == score;
  ordered[i] = ordered[i] != 0 && passes && (!not_negative || score >= 0);
  const auto key = descending_key(score);
  using Key = std::remove_const_t<decltype(key)>;
  const Key last = ~Key{0};  // of a NaN, which passes nothing
  const uint64_t image = sizeof(Key) == 4 ? static_cast<uint64_t>(i / n) << 32 : 0;
  keys[i] = image | (ordered[i] ? key : last);
  values[i] = static_cast<int32_t>(i);
}

static __global__ void image_keys(const int32_t* values, int64_t count, int64_t n, uint64_t* keys) {
  const int64_t i = thread_number();
  if (i < count) keys[i] = static_cast<uint64_t>(values[i] / n);
}

/// Keys of the boxes in the order of their scores; the values are those ranks.
static __global__ void class_keys(const int64_t* classes, const int32_t* order, int64_t count, uint64_t* keys,
                                  int32_t* ranks) {
  const int64_t rank = thread_number();
  if (rank >= count) return;
  keys[rank] = static_cast<uint64_t>(classes[order[rank]]);
  ranks[rank] = static_cast<int32_t>(rank);
}

/// Lists the segments, in any order.
static __global__ void find_segments(const int64_t* classes, const int32_t* order, const int32_t* ranks, int64_t count,
                                     int64_t n, Segment* segments, int32_t* segment_count) {
  const int64_t place = thread_number();
  if (place >= count) return;
  const int64_t mine = classes[order[ranks[place]]];
  const auto same = [&](int64_t other) { return classes[order[ranks[other]]] == mine; };
  if (place % n != 0 && same(place - 1)) return;
  // Of one class up to the end, then of others: by steps that double, then halving.
  const int64_t image_end = place - place % n + n;
  int64_t inside = place, step = 1;
  while (inside + step < image_end && same(inside + step)) {
    inside += step;
    step *= 2;
  }
  int64_t outside = inside + step < image_end ? inside + step : image_end;
  while (outside - inside > 1) {
    const int64_t middle = (inside + outside) / 2;
    (same(middle) ? inside : outside) = middle;
  }
  segments[atomicAdd(segment_count, 1)] = {static_cast<int32_t>(place), static_cast<int32_t>(outside)};
}

}  // namespace visionops::VISIONOPS_ISA
