// Kernels of soft suppression: a block takes the best box of its segment again and again, and its threads lower the
// scores of the others while they look for the next.
#pragma once

#include "common/exponential.h"
#include "suppression/segment_keys.cuh"

namespace visionops::VISIONOPS_ISA {

/// What the kernels share; places are those of the order by image, class and score.
template <class C, class S>
struct Decaying {
  const Packed<C>* boxes;
  S* scores;  // by place, NaN of one that is taken or out
  const int32_t* order;
  const int32_t* ranks;  // null: a place is a rank
  S* decayed;            // by box, the score that it was taken with, NaN before
  C iou_threshold, offset;
  S per_square;  // of the IoU, in the exponent
  S score_threshold;
  bool gaussian, has_score_threshold;
  int64_t limit;  // of boxes taken in a segment
  S nan;

  __device__ int32_t index(int64_t place) const { return order[ranks != nullptr ? ranks[place] : place]; }

  __device__ S lowered(S score, const Box<C>& taken, const Box<C>& box) const {
    const C overlap = iou(box, area(box, offset), taken, area(taken, offset), offset);
    const S wide = static_cast<S>(overlap);
    const S factor = gaussian ? exponential(wide * wide * per_square) : overlap > iou_threshold ? 1 - wide : S(1);
    // Nothing is left of an infinite score at factor 0.
    return factor > 0 ? score * factor : S(0);
  }
};

/// A box in the race for the next; the least key is the best, ties by lower index.
template <class S>
struct Entrant {
  decltype(descending_key(S{})) key;
  int32_t index, place;  // place is -1 if there is none

  __device__ bool before(const Entrant& other) const {
    return key < other.key || (key == other.key && index < other.index);
  }
};

template <class S>
struct Race {
  Entrant<S> by_warp[2][kThreads / kWarp];
};

template <class S>
__device__ Entrant<S> no_entrant() {
  return {static_cast<decltype(Entrant<S>::key)>(~uint64_t{0}), 0x7fffffff, -1};
}

/// The best of the block, known to all its threads. Rounds take turns between two stages, so that one barrier will do:
/// who writes to a stage again has passed the barrier that all come to after they have read it.
template <class S>
__device__ Entrant<S> best_of_block(Entrant<S> mine, int round, Race<S>& race) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const int other = (threadIdx.x % kWarp) ^ step;
    const Entrant<S> theirs = {__shfl_sync(~0u, mine.key, other), __shfl_sync(~0u, mine.index, other),
                               __shfl_sync(~0u, mine.place, other)};
    if (theirs.before(mine)) mine = theirs;
  }
  Entrant<S>* const stage = race.by_warp[round % 2];
  if (threadIdx.x % kWarp == 0) stage[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Entrant<S> best = stage[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) {
    if (stage[warp].before(best)) best = stage[warp];
  }
  return best;
}

/// Takes the boxes of places [begin, end); every thread looks after its own of them. Returns the next round's number.
template <class C, class S>
__device__ int decay_places(int64_t begin, int64_t end, int round, Race<S>& race, const Decaying<C, S>& all) {
  Box<C> taken{};
  for (int64_t count = 0; count < all.limit; ++count) {
    Entrant<S> mine = no_entrant<S>();
    for (int64_t place = begin + threadIdx.x; place < end; place += kThreads) {
      S score = all.scores[place];
      if (score != score) continue;
      if (count > 0) all.scores[place] = score = all.lowered(score, taken, all.boxes[place].box);
      if (all.has_score_threshold && !(score > all.score_threshold)) {
        all.scores[place] = all.nan;
        continue;
      }
      const Entrant<S> entrant = {descending_key(score), all.index(place), static_cast<int32_t>(place)};
      if (entrant.before(mine)) mine = entrant;
    }
    const Entrant<S> best = best_of_block(mine, round++, race);
    if (best.place < 0) break;
    taken = all.boxes[best.place].box;
    if ((best.place - begin) % kThreads == threadIdx.x) {
      all.decayed[best.index] = all.scores[best.place];
      all.scores[best.place] = all.nan;
    }
  }
  return round;
}

/// Segments of classes, one after the other.
template <class C, class S>
__global__ void decay_segments(Decaying<C, S> all, const Segment* segments, const int32_t* segment_count) {
  VISIONOPS_SHARED(Race<S>, race);
  int round = 0;
  for (int64_t s = blockIdx.x; s < *segment_count; s += gridDim.x) {
    round = decay_places(int64_t{segments[s].begin}, int64_t{segments[s].end}, round, race, all);
  }
}

/// Images of one class, a block each.
template <class C, class S>
__global__ void decay_images(Decaying<C, S> all, int64_t n) {
  VISIONOPS_SHARED(Race<S>, race);
  decay_places(blockIdx.x * n, (blockIdx.x + 1) * n, 0, race, all);
}

/// Boxes and scores in the order of their segments.
template <class T, class Score, class S>
__global__ void gather_scored(const T* boxes, const Score* scores, const int32_t* order, const int32_t* ranks,
                              const uint8_t* ordered, int64_t count, Packed<Compute<T>>* gathered, S* gathered_scores,
                              S* decayed, S nan) {
  const int64_t place = thread_number();
  if (place >= count) return;
  const int64_t i = order[ranks != nullptr ? ranks[place] : place];
  gathered[place].box = load_box(boxes + 4 * i);
  gathered_scores[place] = ordered[i] ? static_cast<S>(to_compute(scores[i])) : nan;
  decayed[place] = nan;
}

/// The best `limit` of each image that were taken, then -1 and 0; `slots` threads per image, at least one.
template <class Score, class S>
__global__ void collect_scored(const int32_t* order, const S* decayed, int64_t images, int64_t n, int64_t limit,
                               int64_t slots, int64_t* indices, Score* scores, int64_t* counts) {
  const int64_t image = thread_number() / slots, slot = thread_number() % slots;
  if (image >= images) return;
  const auto is_taken = [&](int64_t rank) {
    if (rank >= n || rank >= limit) return false;
    const S score = decayed[order[image * n + rank]];
    return score == score;
  };
  const bool taken = is_taken(slot);
  if (slot < limit) {
    const int64_t i = taken ? order[image * n + slot] : 0;
    indices[image * limit + slot] = taken ? i - image * n : -1;
    scores[image * limit + slot] = taken ? from_compute<Score>(decayed[i]) : Score{};
  }
  if (taken && !is_taken(slot + 1)) counts[image] = slot + 1;
  if (!taken && slot == 0) counts[image] = 0;
}

}  // namespace visionops::VISIONOPS_ISA
