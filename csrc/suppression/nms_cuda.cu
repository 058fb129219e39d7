// Greedy non-maximum suppression on a GPU: which kernels run in which order, on which parts of the scratch.
#include "suppression/nms_cuda.h"

#include "suppression/nms_resolve.cuh"
#include "suppression/segment_order.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// One call: its arguments, its parts of the scratch, and what it starts.
class Run {
 public:
  Run(const NmsProblem& problem, Arena& arena, Stream stream)
      : problem_(problem), stream_(stream), count_(problem.images * problem.n), segments_(problem, arena, stream) {
    const int64_t box_bytes = count_ * packed_bytes(problem.boxes_dtype);
    arena.take(removed_, count_);
    arena.take(kept_, count_);
    boxes_ = arena.take_bytes(box_bytes);
    kept_boxes_ = arena.take_bytes(box_bytes);
    arena.take(chunk_kept_, problem.images);
    arena.take(total_kept_, problem.images);
  }

  void suppress() {
    segments_.sort();
    visit_number(problem_.boxes_dtype, [&](auto box) {
      using T = typename decltype(box)::type;
      using C = Compute<T>;
      auto* const boxes = static_cast<Packed<C>*>(boxes_);
      segments_.launch_over_boxes(gather<T>, static_cast<const T*>(problem_.boxes), segments_.order(),
                                  segments_.ranks(), segments_.ordered(), count_, boxes, removed_, kept_);
      const Suppression<C> suppression{boxes,
                                       removed_,
                                       static_cast<Packed<C>*>(kept_boxes_),
                                       segments_.ranks(),
                                       kept_,
                                       static_cast<C>(problem_.iou_threshold),
                                       static_cast<C>(problem_.pixel_offset),
                                       problem_.max_output < problem_.n ? problem_.max_output : problem_.n};
      if (problem_.classes != nullptr) {
        launch(resolve_segments<C>, count_ < kSegmentBlocks ? count_ : kSegmentBlocks, kThreads, stream_, suppression,
               segments_.segments(), segments_.segment_count());
      } else {
        suppress_by_chunks(suppression);
      }
    });
  }

  void collect_indices(int64_t* indices, int64_t* counts) {
    launch(collect, problem_.images, kThreads, stream_, segments_.order(), static_cast<const uint8_t*>(kept_),
           problem_.n, problem_.max_output, indices, counts);
  }

 private:
  template <class C>
  void suppress_by_chunks(const Suppression<C>& suppression) {
    const int64_t n = problem_.n, images = problem_.images;
    launch(clear, blocks_of(images, kThreads), kThreads, stream_, total_kept_, images);
    for (int64_t first = 0; first < n; first += kChunk) {
      launch(resolve_chunk<C>, images, kThreads, stream_, suppression, n, first, chunk_kept_, total_kept_);
      const int64_t blocks = blocks_of(n - first - kChunk, kThreads);
      if (first + kChunk < n) {
        launch(sweep<C>, images * blocks, kThreads, stream_, suppression, n, first, blocks,
               static_cast<const int32_t*>(chunk_kept_));
      }
    }
  }

  const NmsProblem& problem_;
  Stream stream_;
  int64_t count_;
  SegmentOrder segments_;
  uint8_t* removed_;  // by place in the segments
  uint8_t* kept_;     // by rank
  void* boxes_;       // by place in the segments
  void* kept_boxes_;
  int32_t* chunk_kept_;  // by image
  int32_t* total_kept_;  // by image
};

}  // namespace

int64_t nms_cuda_workspace_bytes(const NmsProblem& problem) {
  Arena arena(nullptr);
  Run(problem, arena, Stream{});
  return arena.bytes();
}

void nms_cuda(const NmsProblem& problem, void* workspace, int64_t* indices, int64_t* counts, Stream stream) {
  Arena arena(workspace);
  Run run(problem, arena, stream);
  if (problem.images * problem.n > 0) run.suppress();
  run.collect_indices(indices, counts);
}

}  // namespace visionops::VISIONOPS_ISA
