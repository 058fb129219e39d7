// Greedy non-maximum suppression on a GPU: which kernels run in which order, on which parts of the scratch.
#include "suppression/nms_cuda.h"

#include "common/sort.cuh"
#include "suppression/nms_order.cuh"
#include "suppression/nms_resolve.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

// With classes, a block takes the next segment when it is done with one: enough blocks to fill any GPU.
constexpr int64_t kSegmentBlocks = 1024;

struct Workspace {
  SortBuffers by_score, by_class;
  void* sort_scratch;
  int64_t sort_bytes;
  uint8_t* ordered;  // by box: whether it takes part
  uint8_t* removed;  // by place in the segments
  uint8_t* kept;     // by rank
  void* boxes;       // by place in the segments
  void* kept_boxes;
  Segment* segments;
  int32_t* segment_count;
  int32_t* chunk_kept;  // by image
  int32_t* total_kept;  // by image
  int64_t bytes = 0;

  Workspace(const NmsProblem& problem, void* memory) : base_(static_cast<char*>(memory)) {
    const int64_t boxes_in_all = problem.images * problem.n;
    const int64_t classified = problem.classes != nullptr ? boxes_in_all : 0;
    const int64_t box_bytes = boxes_in_all * 4 * (computes_in_double(problem.boxes_dtype) ? 8 : 4);
    take(by_score, boxes_in_all);
    take(by_class, classified);
    sort_bytes = boxes_in_all > 0 ? sort_scratch_bytes(boxes_in_all) : 0;
    sort_scratch = take_bytes(sort_bytes);
    take(ordered, boxes_in_all);
    take(removed, boxes_in_all);
    take(kept, boxes_in_all);
    boxes = take_bytes(box_bytes);
    kept_boxes = take_bytes(box_bytes);
    take(segments, classified);
    take(segment_count, 1);
    take(chunk_kept, problem.images);
    take(total_kept, problem.images);
  }

 private:
  static bool computes_in_double(DType dtype) {
    return dtype == DType::f64 || dtype == DType::i32 || dtype == DType::i64;
  }

  void* take_bytes(int64_t count) {
    void* const part = base_ + bytes;
    bytes += blocks_of(count, 256) * 256;
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

  char* base_;
};

int bits_for(int64_t count) {
  int bits = 1;
  while ((int64_t{1} << bits) < count) ++bits;
  return bits;
}

/// One call: its arguments, and what they imply.
class Run {
 public:
  Run(const NmsProblem& problem, void* workspace, Stream stream)
      : problem_(problem), work_(problem, workspace), stream_(stream), count_(problem.images * problem.n) {}

  void order_by_score() {
    visit_number(problem_.boxes_dtype, [&](auto box) {
      using T = typename decltype(box)::type;
      launch_over_boxes(mark_ordered<T>, static_cast<const T*>(problem_.boxes), work_.ordered, count_);
    });
    SortBuffers& buffers = work_.by_score;
    bool wide = false;
    visit_floating(problem_.scores_dtype, [&](auto score) {
      using S = typename decltype(score)::type;
      wide = sizeof(Compute<S>) == 8;
      launch_over_boxes(score_keys<S>, static_cast<const S*>(problem_.scores), count_, problem_.n,
                        static_cast<Compute<S>>(problem_.score_threshold), problem_.has_score_threshold, work_.ordered,
                        buffers.keys, buffers.values);
    });
    // A narrow score and its image fit into one key.
    sort(buffers, wide ? 64 : 32 + (problem_.images > 1 ? bits_for(problem_.images) : 0));
    if (wide) sort_by_image(buffers);
  }

  void group_by_class() {
    if (problem_.classes == nullptr) return;
    SortBuffers& buffers = work_.by_class;
    launch_over_boxes(class_keys, problem_.classes, work_.by_score.values, count_, buffers.keys, buffers.values);
    sort(buffers, 64);
    sort_by_image(buffers);
    launch(clear, 1, kThreads, stream_, work_.segment_count, int64_t{1});
    launch_over_boxes(find_segments, problem_.classes, order(), ranks(), count_, problem_.n, work_.segments,
                      work_.segment_count);
  }

  void suppress() {
    visit_number(problem_.boxes_dtype, [&](auto box) {
      using T = typename decltype(box)::type;
      using C = Compute<T>;
      auto* const boxes = static_cast<Packed<C>*>(work_.boxes);
      launch_over_boxes(gather<T>, static_cast<const T*>(problem_.boxes), order(), ranks(), work_.ordered, count_,
                        boxes, work_.removed, work_.kept);
      const Suppression<C> suppression{boxes,
                                       work_.removed,
                                       static_cast<Packed<C>*>(work_.kept_boxes),
                                       ranks(),
                                       work_.kept,
                                       static_cast<C>(problem_.iou_threshold),
                                       static_cast<C>(problem_.pixel_offset),
                                       limit()};
      if (problem_.classes != nullptr) {
        launch(resolve_segments<C>, count_ < kSegmentBlocks ? count_ : kSegmentBlocks, kThreads, stream_, suppression,
               static_cast<const Segment*>(work_.segments), static_cast<const int32_t*>(work_.segment_count));
      } else {
        suppress_by_chunks(suppression);
      }
    });
  }

  void collect_indices(int64_t* indices, int64_t* counts) {
    launch(collect, problem_.images, kThreads, stream_, order(), static_cast<const uint8_t*>(work_.kept), problem_.n,
           problem_.max_output, indices, counts);
  }

 private:
  const int32_t* order() const { return work_.by_score.values; }
  const int32_t* ranks() const { return problem_.classes != nullptr ? work_.by_class.values : nullptr; }
  int64_t limit() const { return problem_.max_output < problem_.n ? problem_.max_output : problem_.n; }

  void sort(SortBuffers& buffers, int bits) {
    sort_pairs(buffers, work_.sort_scratch, work_.sort_bytes, count_, bits, stream_);
  }

  /// The last of several stable sorts.
  void sort_by_image(SortBuffers& buffers) {
    if (problem_.images == 1) return;
    launch_over_boxes(image_keys, static_cast<const int32_t*>(buffers.values), count_, problem_.n, buffers.keys);
    sort(buffers, bits_for(problem_.images));
  }

  template <class C>
  void suppress_by_chunks(const Suppression<C>& suppression) {
    const int64_t n = problem_.n, images = problem_.images;
    launch(clear, blocks_of(images, kThreads), kThreads, stream_, work_.total_kept, images);
    for (int64_t first = 0; first < n; first += kChunk) {
      launch(resolve_chunk<C>, images, kThreads, stream_, suppression, n, first, work_.chunk_kept, work_.total_kept);
      const int64_t blocks = blocks_of(n - first - kChunk, kThreads);
      if (first + kChunk < n) {
        launch(sweep<C>, images * blocks, kThreads, stream_, suppression, n, first, blocks,
               static_cast<const int32_t*>(work_.chunk_kept));
      }
    }
  }

  template <class... Parameters, class... Arguments>
  void launch_over_boxes(void (*kernel)(Parameters...), Arguments... arguments) {
    launch(kernel, blocks_of(count_, kThreads), kThreads, stream_, arguments...);
  }

  const NmsProblem& problem_;
  Workspace work_;
  Stream stream_;
  int64_t count_;
};

}  // namespace

int64_t nms_cuda_workspace_bytes(const NmsProblem& problem) { return Workspace(problem, nullptr).bytes; }

void nms_cuda(const NmsProblem& problem, void* workspace, int64_t* indices, int64_t* counts, Stream stream) {
  Run run(problem, workspace, stream);
  if (problem.images * problem.n > 0) {
    run.order_by_score();
    run.group_by_class();
    run.suppress();
  }
  run.collect_indices(indices, counts);
}

}  // namespace visionops::VISIONOPS_ISA
