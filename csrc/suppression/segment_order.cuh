// The first stage of every suppression on a GPU: which boxes take part, ordered by image, class and score.
#pragma once

#include "common/sort.cuh"
#include "suppression/segment_keys.cuh"
#include "suppression/segments.h"

namespace visionops::VISIONOPS_ISA {

/// Hands out parts of a call's scratch; on no memory it counts the bytes.
class Arena {
 public:
  explicit Arena(void* memory) : base_(static_cast<char*>(memory)) {}

  int64_t bytes() const { return bytes_; }

  void* take_bytes(int64_t count) {
    void* const part = base_ + bytes_;
    bytes_ += blocks_of(count, 256) * 256;
    return part;
  }

  template <class E>
  void take(E*& array, int64_t count) {
    array = static_cast<E*>(take_bytes(count * int64_t{sizeof(E)}));
  }

  void take(SortBuffers& buffers, int64_t count) {
    take(buffers.keys, count);
    take(buffers.spare_keys, count);
    take(buffers.values, count);
    take(buffers.spare_values, count);
  }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

inline int bits_for(int64_t count) {
  int bits = 1;
  while ((int64_t{1} << bits) < count) ++bits;
  return bits;
}

class SegmentOrder {
 public:
  SegmentOrder(const Candidates& candidates, Arena& arena, Stream stream)
      : candidates_(candidates), stream_(stream), count_(candidates.images * candidates.n) {
    const int64_t classified = candidates.classes != nullptr ? count_ : 0;
    arena.take(by_score_, count_);
    arena.take(by_class_, classified);
    sort_bytes_ = count_ > 0 ? sort_scratch_bytes(count_) : 0;
    sort_scratch_ = arena.take_bytes(sort_bytes_);
    arena.take(ordered_, count_);
    arena.take(segments_, classified);
    arena.take(segment_count_, 1);
  }

  /// Orders the candidates, then groups them by class, if they have classes.
  void sort() {
    visit_number(candidates_.boxes_dtype, [&](auto box) {
      using T = typename decltype(box)::type;
      launch_over_boxes(mark_ordered<T>, static_cast<const T*>(candidates_.boxes), ordered_, count_);
    });
    visit_floating(candidates_.scores_dtype, [&](auto score) {
      using S = typename decltype(score)::type;
      sort_by_score(static_cast<const S*>(candidates_.scores), candidates_.has_score_threshold, candidates_.rescored);
    });
    if (candidates_.classes != nullptr) group_by_class();
  }

  /// Orders the boxes whose score is no NaN by other scores.
  template <class S>
  void sort_by_score(const S* scores, bool has_threshold = false, bool not_negative = false) {
    using C = Compute<S>;
    launch_over_boxes(score_keys<S>, scores, count_, candidates_.n, static_cast<C>(candidates_.score_threshold),
                      has_threshold, not_negative, ordered_, by_score_.keys, by_score_.values);
    // A narrow score and its image fit into one key.
    const bool wide = sizeof(C) == 8;
    const int image_bits = candidates_.images > 1 ? bits_for(candidates_.images) : 0;
    sort(by_score_, wide ? 64 : 32 + image_bits);
    if (wide) sort_by_image(by_score_);
  }

  /// Rank, counted over all images, to box; those that take no part come last in their image.
  const int32_t* order() const { return by_score_.values; }
  /// Place in the segments to rank; null if they are the same.
  const int32_t* ranks() const { return candidates_.classes != nullptr ? by_class_.values : nullptr; }
  /// By box: whether it takes part.
  const uint8_t* ordered() const { return ordered_; }
  /// Those of classes, in any order; without classes each image is one.
  const Segment* segments() const { return segments_; }
  const int32_t* segment_count() const { return segment_count_; }

  /// Starts a thread for every box of all images.
  template <class... Parameters, class... Arguments>
  void launch_over_boxes(void (*kernel)(Parameters...), Arguments... arguments) const {
    launch(kernel, blocks_of(count_, kThreads), kThreads, stream_, arguments...);
  }

 private:
  void group_by_class() {
    launch_over_boxes(class_keys, candidates_.classes, order(), count_, by_class_.keys, by_class_.values);
    sort(by_class_, 64);
    sort_by_image(by_class_);
    launch(clear, 1, kThreads, stream_, segment_count_, int64_t{1});
    launch_over_boxes(find_segments, candidates_.classes, order(), ranks(), count_, candidates_.n, segments_,
                      segment_count_);
  }

  void sort(SortBuffers& buffers, int bits) { sort_pairs(buffers, sort_scratch_, sort_bytes_, count_, bits, stream_); }

  /// The last of several stable sorts.
  void sort_by_image(SortBuffers& buffers) {
    if (candidates_.images == 1) return;
    launch_over_boxes(image_keys, static_cast<const int32_t*>(buffers.values), count_, candidates_.n, buffers.keys);
    sort(buffers, bits_for(candidates_.images));
  }

  const Candidates& candidates_;
  Stream stream_;
  int64_t count_;
  SortBuffers by_score_, by_class_;
  void* sort_scratch_;
  int64_t sort_bytes_;
  uint8_t* ordered_;
  Segment* segments_;
  int32_t* segment_count_;
};

/// Bytes of a box that computes in the type that its dtype does.
inline int64_t packed_bytes(DType boxes) {
  return 4 * (boxes == DType::f64 || boxes == DType::i32 || boxes == DType::i64 ? 8 : 4);
}

// With classes, a block takes the next segment when it is done with one: enough blocks to fill any GPU.
constexpr int64_t kSegmentBlocks = 1024;

}  // namespace visionops::VISIONOPS_ISA
