// Runs the stages of greedy suppression on whatever threads the caller has, and holds their scratch.
#pragma once

#include <memory>
#include <new>

#include "suppression/nms.h"

namespace visionops {

class NmsRun {
 public:
  /// Decides; parallel(count, grain, body) calls body(begin, end) over [0, count), by tasks of at least `grain` items.
  template <class Parallel>
  NmsRun(const NmsProblem& problem, const Parallel& parallel) : problem_(problem) {
    const int64_t bytes = nms_workspace_bytes(problem_);
    workspace_.reset(::operator new(static_cast<size_t>(bytes), kAlignment));
    parallel(problem_.images, kBoxesPerTask / (problem_.n + 1) + 1,
             [&](int64_t begin, int64_t end) { nms_rank(problem_, workspace_.get(), begin, end); });
    const int64_t segments = nms_segments(problem_, workspace_.get());
    const int64_t boxes_per_segment = problem_.images * problem_.n / (segments + 1) + 1;
    parallel(segments, kBoxesPerTask / boxes_per_segment + 1,
             [&](int64_t begin, int64_t end) { nms_suppress(problem_, workspace_.get(), begin, end); });
  }

  int64_t count(int64_t image) const { return nms_count(problem_, workspace_.get(), image); }

  /// Writes count(image) indices.
  void collect(int64_t image, int64_t* indices) const { nms_collect(problem_, workspace_.get(), image, indices); }

 private:
  static constexpr int64_t kBoxesPerTask = 2048;
  static constexpr std::align_val_t kAlignment{64};

  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, kAlignment); }
  };

  NmsProblem problem_;
  std::unique_ptr<void, Free> workspace_;
};

}  // namespace visionops
