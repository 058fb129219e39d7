// Soft non-maximum suppression on a GPU: which kernels run in which order, on which parts of the scratch.
#include "suppression/soft_nms_cuda.h"

#include <limits>

#include "suppression/segment_order.cuh"
#include "suppression/soft_nms_decay.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// One call: its arguments, its parts of the scratch, and what it starts.
class Run {
 public:
  Run(const SoftNmsProblem& problem, Arena& arena, Stream stream)
      : problem_(problem), stream_(stream), count_(problem.images * problem.n), segments_(problem, arena, stream) {
    const int64_t score_bytes = count_ * (problem.scores_dtype == DType::f64 ? 8 : 4);
    boxes_ = arena.take_bytes(count_ * packed_bytes(problem.boxes_dtype));
    scores_ = arena.take_bytes(score_bytes);
    decayed_ = arena.take_bytes(score_bytes);
  }

  void decay() {
    segments_.sort();
    visit_number(problem_.boxes_dtype, [&](auto box) {
      using T = typename decltype(box)::type;
      visit_floating(problem_.scores_dtype, [&](auto score) {
        using Score = typename decltype(score)::type;
        using C = Compute<T>;
        using S = Compute<Score>;
        constexpr S nan = std::numeric_limits<S>::quiet_NaN();
        auto* const boxes = static_cast<Packed<C>*>(boxes_);
        auto* const scores = static_cast<S*>(scores_);
        auto* const decayed = static_cast<S*>(decayed_);
        segments_.launch_over_boxes(gather_scored<T, Score, S>, static_cast<const T*>(problem_.boxes),
                                    static_cast<const Score*>(problem_.scores), segments_.order(), segments_.ranks(),
                                    segments_.ordered(), count_, boxes, scores, decayed, nan);
        decay_all(Decaying<C, S>{boxes, scores, segments_.order(), segments_.ranks(), decayed,
                                 static_cast<C>(problem_.iou_threshold), static_cast<C>(problem_.pixel_offset),
                                 exponent_per_square<S>(problem_.sigma), static_cast<S>(problem_.score_threshold),
                                 problem_.method == SoftNmsMethod::gaussian, problem_.has_score_threshold,
                                 problem_.max_output < problem_.n ? problem_.max_output : problem_.n, nan});
        segments_.sort_by_score(static_cast<const S*>(decayed));
      });
    });
  }

  void collect(int64_t* indices, void* scores, int64_t* counts) {
    const int64_t limit = problem_.max_output, slots = limit > 0 ? limit : 1;
    visit_floating(problem_.scores_dtype, [&](auto score) {
      using Score = typename decltype(score)::type;
      using S = Compute<Score>;
      launch(collect_scored<Score, S>, blocks_of(problem_.images * slots, kThreads), kThreads, stream_,
             segments_.order(), static_cast<const S*>(decayed_), problem_.images, problem_.n, limit, slots, indices,
             static_cast<Score*>(scores), counts);
    });
  }

 private:
  template <class C, class S>
  void decay_all(const Decaying<C, S>& all) {
    if (problem_.classes != nullptr) {
      launch(decay_segments<C, S>, count_ < kSegmentBlocks ? count_ : kSegmentBlocks, kThreads, stream_, all,
             segments_.segments(), segments_.segment_count());
    } else {
      launch(decay_images<C, S>, problem_.images, kThreads, stream_, all, problem_.n);
    }
  }

  const SoftNmsProblem& problem_;
  Stream stream_;
  int64_t count_;
  SegmentOrder segments_;
  void* boxes_;    // by place in the segments
  void* scores_;   // by place in the segments
  void* decayed_;  // by box
};

}  // namespace

int64_t soft_nms_cuda_workspace_bytes(const SoftNmsProblem& problem) {
  Arena arena(nullptr);
  Run(problem, arena, Stream{});
  return arena.bytes();
}

void soft_nms_cuda(const SoftNmsProblem& problem, void* workspace, int64_t* indices, void* scores, int64_t* counts,
                   Stream stream) {
  Arena arena(workspace);
  Run run(problem, arena, stream);
  if (problem.images * problem.n > 0) run.decay();
  run.collect(indices, scores, counts);
}

}  // namespace visionops::VISIONOPS_ISA
