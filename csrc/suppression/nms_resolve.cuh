// Kernels of greedy suppression: a block resolves a run of boxes in order, many blocks sweep those after it, and the
// indices of what is kept.
#pragma once

#include "suppression/segment_keys.cuh"

namespace visionops::VISIONOPS_ISA {

/// Boxes in the order of their segments, whether each is out already, and nothing kept.
template <class T>
__global__ void gather(const T* boxes, const int32_t* order, const int32_t* ranks, const uint8_t* ordered,
                       int64_t count, Packed<Compute<T>>* gathered, uint8_t* removed, uint8_t* kept) {
  const int64_t place = thread_number();
  if (place >= count) return;
  const int64_t i = order[ranks != nullptr ? ranks[place] : place];
  gathered[place].box = load_box(boxes + 4 * i);
  removed[place] = !ordered[i];
  kept[place] = 0;
}

/// Boxes without classes are resolved so many at a time, and all others of their image swept by what was kept.
constexpr int64_t kChunk = 4 * kThreads;

/// What the kernels share; places are those of the order by image, class and score.
template <class C>
struct Suppression {
  const Packed<C>* boxes;
  uint8_t* removed;
  Packed<C>* kept_boxes;  // those of a run from where it begins
  const int32_t* ranks;   // null: a place is a rank
  uint8_t* kept;          // by rank
  C threshold, offset;
  int64_t limit;  // more than so many of a run need not be known
};

template <class C>
struct Stage {
  Packed<C> boxes[kThreads];
  int count;
};

template <class C>
__device__ bool suppresses(const Box<C>& kept, const Box<C>& box, C own_area, const Suppression<C>& all) {
  return iou(kept, area(kept, all.offset), box, own_area, all.offset) > all.threshold;
}

/// Whether a box of its own thread outlives the kept boxes [begin, begin + count), which the block reads together.
template <class C>
__device__ bool outlives(bool alive, const Box<C>& box, C own_area, int64_t begin, int64_t count, Stage<C>& stage,
                         const Suppression<C>& all) {
  for (int64_t first = 0; first < count; first += kThreads) {
    const int64_t staged = count - first < kThreads ? count - first : kThreads;
    __syncthreads();
    if (threadIdx.x < staged) stage.boxes[threadIdx.x] = all.kept_boxes[begin + first + threadIdx.x];
    __syncthreads();
    for (int64_t k = 0; k < staged && alive; ++k) alive = !suppresses(stage.boxes[k].box, box, own_area, all);
  }
  return alive;
}

/// Among the lanes of a warp, in their order: whether this one's box stays.
template <class C>
__device__ bool outlives_warp(bool alive, const Box<C>& box, C own_area, const Suppression<C>& all) {
  const int lane = threadIdx.x % kWarp;
  uint32_t candidates = __ballot_sync(~0u, alive);
  while (candidates != 0) {
    const int next = __ffs(candidates) - 1;
    const Box<C> kept = {__shfl_sync(~0u, box.x1, next), __shfl_sync(~0u, box.y1, next), __shfl_sync(~0u, box.x2, next),
                         __shfl_sync(~0u, box.y2, next)};
    if (alive && lane > next) alive = !suppresses(kept, box, own_area, all);
    candidates = __ballot_sync(~0u, alive && lane > next);
  }
  return alive;
}

/// Resolves the places [begin, end): marks what is kept, lists it in kept_boxes from `begin` on, returns how many.
template <class C>
__device__ int64_t resolve(int64_t begin, int64_t end, int64_t limit, Stage<C>& stage, const Suppression<C>& all) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  int64_t kept = 0;
  for (int64_t first = begin; first < end && kept < limit; first += kThreads) {
    const int64_t place = first + threadIdx.x;
    bool alive = place < end && !all.removed[place];
    const Box<C> box = place < end ? all.boxes[place].box : Box<C>{};
    const C own_area = area(box, all.offset);
    alive = outlives(alive, box, own_area, begin, kept, stage, all);
    __syncthreads();
    for (int turn = 0; turn < kThreads / kWarp; ++turn) {
      if (warp == turn) {
        alive = outlives_warp(alive, box, own_area, all);
        const uint32_t stay = __ballot_sync(~0u, alive);
        const int position = __popc(stay & ((1u << lane) - 1));
        if (alive) {
          stage.boxes[position].box = box;
          all.kept_boxes[begin + kept + position].box = box;
          all.kept[all.ranks != nullptr ? all.ranks[place] : place] = 1;
        }
        if (lane == 0) stage.count = __popc(stay);
      }
      __syncthreads();
      const int count = stage.count;
      if (warp > turn) {
        for (int k = 0; k < count && alive; ++k) alive = !suppresses(stage.boxes[k].box, box, own_area, all);
      }
      kept += count;
      __syncthreads();
    }
  }
  return kept;
}

/// Whole segments, one after the other.
template <class C>
__global__ void resolve_segments(Suppression<C> all, const Segment* segments, const int32_t* segment_count) {
  VISIONOPS_SHARED(Stage<C>, stage);
  for (int64_t s = blockIdx.x; s < *segment_count; s += gridDim.x) {
    resolve(int64_t{segments[s].begin}, int64_t{segments[s].end}, all.limit, stage, all);
  }
}

/// The chunk of each image from rank `first` on, a block per image, unless enough was kept before.
template <class C>
__global__ void resolve_chunk(Suppression<C> all, int64_t n, int64_t first, int32_t* chunk_kept, int32_t* total_kept) {
  VISIONOPS_SHARED(Stage<C>, stage);
  const int64_t image = blockIdx.x, begin = image * n + first;
  const int64_t end = first + kChunk < n ? begin + kChunk : (image + 1) * n;
  const int64_t left = all.limit - total_kept[image];
  const int64_t kept = resolve(begin, end, left, stage, all);
  if (threadIdx.x == 0) {
    chunk_kept[image] = static_cast<int32_t>(kept);
    total_kept[image] += static_cast<int32_t>(kept);
  }
}

/// Removes what the chunk's kept boxes suppress of the ranks after it; `blocks` blocks per image.
template <class C>
__global__ void sweep(Suppression<C> all, int64_t n, int64_t first, int64_t blocks, const int32_t* chunk_kept) {
  VISIONOPS_SHARED(Stage<C>, stage);
  const int64_t image = blockIdx.x / blocks;
  const int64_t rank = first + kChunk + blockIdx.x % blocks * kThreads + threadIdx.x;
  const int64_t place = image * n + rank;
  const bool alive = rank < n && !all.removed[place];
  const Box<C> box = rank < n ? all.boxes[place].box : Box<C>{};
  const bool outlived = outlives(alive, box, area(box, all.offset), image * n + first,
                                 static_cast<int64_t>(chunk_kept[image]), stage, all);
  if (alive && !outlived) all.removed[place] = 1;
}

/// The first `limit` kept boxes of each image by rank, then -1; a block per image.
static __global__ void collect(const int32_t* order, const uint8_t* kept, int64_t n, int64_t limit, int64_t* indices,
                               int64_t* counts) {
  struct Kept {
    int by_warp[kThreads / kWarp];
  };
  VISIONOPS_SHARED(Kept, stage);
  const int64_t image = blockIdx.x;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  int64_t* const row = indices + image * limit;
  int64_t found = 0;
  for (int64_t first = 0; first < n && found < limit; first += kThreads) {
    const int64_t rank = first + threadIdx.x;
    const bool stays = rank < n && kept[image * n + rank];
    const uint32_t votes = __ballot_sync(~0u, stays);
    if (lane == 0) stage.by_warp[warp] = __popc(votes);
    __syncthreads();
    int64_t place = found + __popc(votes & ((1u << lane) - 1));
    for (int i = 0; i < kThreads / kWarp; ++i) {
      if (i < warp) place += stage.by_warp[i];
      found += stage.by_warp[i];
    }
    if (stays && place < limit) row[place] = order[image * n + rank] - image * n;
    __syncthreads();
  }
  if (found > limit) found = limit;
  for (int64_t place = found + threadIdx.x; place < limit; place += kThreads) row[place] = -1;
  if (threadIdx.x == 0) counts[image] = found;
}

}  // namespace visionops::VISIONOPS_ISA
