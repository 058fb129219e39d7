// How the stages of a suppression share their scratch, and a segment's boxes as they find them there.
#pragma once

#include "common/box.h"
#include "suppression/segments.h"

namespace visionops::VISIONOPS_ISA {

/// A box's share of the scratch: two Keyed<uint64_t> while its image is sorted; of a segment larger than kSmallSegment
/// a grid of its kept boxes, or all its boxes with their decaying scores.
constexpr int64_t kScratchBytes = 64, kRescoringScratchBytes = 96;

// Measured. Up to so many boxes one cell is as fast as a grid, and fits on the stack.
constexpr int64_t kSmallSegment = 256;

struct Workspace {
  // Per image.
  int64_t* ranked;  // boxes that take part; where rescored, in the end those that are left
  int64_t* segments;
  int64_t* first_segment;  // counted over all images; one more entry at the end
  // Per box of an image.
  char* scratch;
  int32_t* order;    // rank -> box
  int32_t* grouped;  // ranks, class by class
  int32_t* starts;   // of the segments in `grouped`; one more entry at the end
  uint8_t* kept;     // by rank; not where rescored
  int32_t* slots;    // where rescored, for a stage's own use
  double* decayed;   // where rescored, the score of each box, NaN if it is out
  int64_t scratch_bytes, bytes = 0;

  Workspace(const Candidates& candidates, const void* memory)
      : scratch_bytes(candidates.rescored ? kRescoringScratchBytes : kScratchBytes),
        base_(static_cast<char*>(const_cast<void*>(memory))) {
    const int64_t images = candidates.images, boxes = images * candidates.n;
    const int64_t classified = candidates.classes != nullptr ? boxes : 0;
    take(scratch, boxes * scratch_bytes);
    take(ranked, images);
    take(segments, images);
    take(first_segment, images + 1);
    take(order, boxes);
    take(grouped, classified);
    take(starts, classified + images);
    take(kept, boxes);
    take(slots, candidates.rescored ? boxes : 0);
    take(decayed, candidates.rescored ? boxes : 0);
  }

  /// The same arrays, those per box starting at image `image`.
  Workspace at(const Candidates& candidates, int64_t image) const {
    Workspace of_image = *this;
    const int64_t first = image * candidates.n;
    of_image.scratch += first * scratch_bytes;
    of_image.order += first;
    of_image.grouped += candidates.classes != nullptr ? first : 0;
    of_image.starts += (candidates.classes != nullptr ? first : 0) + image;
    of_image.kept += first;
    of_image.slots += candidates.rescored ? first : 0;
    of_image.decayed += candidates.rescored ? first : 0;
    return of_image;
  }

 private:
  template <class E>
  void take(E*& array, int64_t count) {
    array = reinterpret_cast<E*>(base_ + bytes);
    bytes = (bytes + count * int64_t{sizeof(E)} + 63) / 64 * 64;
  }

  char* base_;
};

template <class T>
Box<Compute<T>> load_box(const T* box) {
  return {to_compute(box[0]), to_compute(box[1]), to_compute(box[2]), to_compute(box[3])};
}

/// Boxes of one class in one image, best first.
struct Segment {
  const int32_t* order;
  const int32_t* ranks;  // null: 0, 1, 2, ...
  int64_t size;
  char* scratch;

  int64_t rank(int64_t i) const { return ranks != nullptr ? ranks[i] : i; }
  int64_t index(int64_t i) const { return order[rank(i)]; }
};

/// A segment's boxes in memory.
template <class T>
struct SegmentBoxes : Segment {
  const T* boxes;

  SegmentBoxes(const Segment& segment, const void* boxes_of_image)
      : Segment(segment), boxes(static_cast<const T*>(boxes_of_image)) {}

  const T* address(int64_t i) const { return boxes + 4 * index(i); }
};

/// Calls body(segment, workspace of its image, image) for the segments [begin, end) of all images.
template <class Body>
void for_segments(const Candidates& candidates, void* workspace, int64_t begin, int64_t end, const Body& body) {
  const Workspace all(candidates, workspace);
  int64_t image = 0;
  for (int64_t s = begin; s < end; ++s) {
    while (s >= all.first_segment[image + 1]) ++image;
    const Workspace own = all.at(candidates, image);
    const int64_t k = s - all.first_segment[image];
    const bool classified = candidates.classes != nullptr;
    const int64_t start = classified ? own.starts[k] : 0;
    const int64_t stop = classified ? own.starts[k + 1] : all.ranked[image];
    body(Segment{own.order, classified ? own.grouped + start : nullptr, stop - start,
                 own.scratch + start * own.scratch_bytes},
         own, image);
  }
}

/// The boxes of an image.
template <class T>
const T* boxes_of(const Candidates& candidates, int64_t image) {
  return static_cast<const T*>(candidates.boxes) + 4 * image * candidates.n;
}

}  // namespace visionops::VISIONOPS_ISA
