// Runs the stages of a suppression on whatever threads the caller has, and holds their scratch.
#pragma once

#include <memory>
#include <new>

#include "suppression/matrix_nms.h"
#include "suppression/nms.h"
#include "suppression/soft_nms.h"

namespace visionops {

template <class Parallel>
void decide(const NmsProblem& problem, void* workspace, int64_t segments, int64_t grain, const Parallel& parallel) {
  parallel(segments, grain, [&](int64_t begin, int64_t end) { nms_suppress(problem, workspace, begin, end); });
}

template <class Parallel>
void decide(const SoftNmsProblem& problem, void* workspace, int64_t segments, int64_t grain, const Parallel& parallel) {
  parallel(segments, grain, [&](int64_t begin, int64_t end) { soft_nms_decay(problem, workspace, begin, end); });
}

/// Small segments are shared among the threads; each of the others is shared out itself.
template <class Parallel>
void decide(const MatrixNmsProblem& problem, void* workspace, int64_t segments, int64_t grain,
            const Parallel& parallel) {
  constexpr int64_t kPairsPerTask = 32768, kFewBoxes = 256, kFewMasks = kMatrixNmsBlock;
  const int64_t few = problem.boxes != nullptr ? kFewBoxes : kFewMasks;
  parallel(segments, grain,
           [&](int64_t begin, int64_t end) { matrix_nms_segments(problem, workspace, few, begin, end); });
  for (int64_t s = 0; s < segments; ++s) {
    const int64_t size = segment_size(problem, workspace, s);
    if (size <= few) continue;
    matrix_nms_gather(problem, workspace, s);
    const int64_t blocks = (size + kMatrixNmsBlock - 1) / kMatrixNmsBlock;
    const int64_t blocks_per_task = problem.boxes != nullptr ? kPairsPerTask / (kMatrixNmsBlock * size) + 1 : 1;
    parallel(blocks, blocks_per_task,
             [&](int64_t begin, int64_t end) { matrix_nms_overlap(problem, workspace, s, begin, end); });
    parallel(blocks, blocks_per_task,
             [&](int64_t begin, int64_t end) { matrix_nms_decay(problem, workspace, s, begin, end); });
  }
}

class SuppressionRun {
 public:
  /// Decides; parallel(count, grain, body) calls body(begin, end) over [0, count), by tasks of at least `grain` items.
  template <class Problem, class Parallel>
  SuppressionRun(const Problem& problem, const Parallel& parallel) : candidates_(problem) {
    const int64_t bytes = workspace_bytes(problem);
    workspace_.reset(::operator new(static_cast<size_t>(bytes), kAlignment));
    void* const workspace = workspace_.get();
    const int64_t images_per_task = kBoxesPerTask / (problem.n + 1) + 1;
    parallel(problem.images, images_per_task,
             [&](int64_t begin, int64_t end) { rank_candidates(problem, workspace, begin, end); });
    const int64_t segments = count_segments(problem, workspace);
    const int64_t boxes_per_segment = problem.images * problem.n / (segments + 1) + 1;
    decide(problem, workspace, segments, kBoxesPerTask / boxes_per_segment + 1, parallel);
    if (problem.rescored) {
      parallel(problem.images, images_per_task,
               [&](int64_t begin, int64_t end) { rank_decayed(problem, workspace, begin, end); });
    }
  }

  int64_t count(int64_t image) const { return kept_count(candidates_, workspace_.get(), image); }

  /// Writes count(image) indices and, where rescored, scores.
  void collect(int64_t image, int64_t* indices, void* scores = nullptr) const {
    collect_kept(candidates_, workspace_.get(), image, indices, scores);
  }

 private:
  static constexpr int64_t kBoxesPerTask = 2048;
  static constexpr std::align_val_t kAlignment{64};

  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, kAlignment); }
  };

  Candidates candidates_;
  std::unique_ptr<void, Free> workspace_;
};

}  // namespace visionops
