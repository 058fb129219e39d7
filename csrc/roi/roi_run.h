// Runs the operations on RoIs on whatever threads the caller has, and holds what they share and their scratch.
#pragma once

#include <memory>
#include <new>

#include "roi/roi_bins.h"
#include "roi/roi_samples.h"
#include "roi/roi_weights.h"

namespace visionops {

/// Memory of one call, aligned as vectors like it.
class RoiScratch {
 public:
  explicit RoiScratch(int64_t bytes) : memory_(::operator new(static_cast<size_t>(bytes), kAlignment)) {}
  void* get() const { return memory_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, kAlignment); }
  };
  std::unique_ptr<void, Free> memory_;
};

constexpr int64_t kRoiValuesPerTask = 4096;

/// Items of which a task has kRoiValuesPerTask values of the result.
inline int64_t roi_grain(const RoiProblem& problem, int64_t items) {
  const int64_t values = problem.rois * problem.channels * problem.pooled_height * problem.pooled_width;
  return kRoiValuesPerTask / (values / (items + 1) + 1) + 1;
}

/// parallel(count, grain, body) calls body(begin, end) over [0, count), by tasks of at least `grain` items.
template <class Parallel>
void run_roi_align(const RoiProblem& problem, void* out, const Parallel& parallel) {
  const RoiWeightTable weights(problem, RoiPass::forward, parallel);
  const int64_t items = roi_align_items(problem);
  const int64_t bytes = roi_align_scratch_bytes(problem, weights.table());
  parallel(items, roi_grain(problem, items), [&](int64_t begin, int64_t end) {
    const RoiScratch scratch(bytes);
    roi_align(problem, weights.table(), out, scratch.get(), begin, end);
  });
}

template <class Parallel>
void run_roi_align_backward(const RoiProblem& problem, const RoiResult& grad, void* const* grad_inputs,
                            const Parallel& parallel) {
  const RoiWeightTable weights(problem, RoiPass::backward, parallel);
  const int64_t items = roi_align_backward_items(problem);
  const int64_t bytes = roi_align_backward_scratch_bytes(problem, weights.table());
  parallel(items, 1, [&](int64_t begin, int64_t end) {
    const RoiScratch scratch(bytes);
    roi_align_backward(problem, weights.table(), grad, grad_inputs, scratch.get(), begin, end);
  });
}

template <class Parallel>
void run_roi_align_max(const RoiProblem& problem, void* out, const Parallel& parallel) {
  const RoiSampleTable samples(problem);
  const int64_t items = roi_align_max_items(problem);
  parallel(items, roi_grain(problem, items),
           [&](int64_t begin, int64_t end) { roi_align_max(problem, samples.table(), out, begin, end); });
}

template <class Parallel>
void run_roi_align_max_backward(const RoiProblem& problem, const RoiResult& grad, void* grad_input,
                                const Parallel& parallel) {
  const RoiSampleTable samples(problem);
  parallel(roi_align_max_backward_items(problem), 1, [&](int64_t begin, int64_t end) {
    const RoiScratch scratch(roi_align_max_backward_scratch_bytes(problem));
    roi_align_max_backward(problem, samples.table(), grad, grad_input, scratch.get(), begin, end);
  });
}

/// argmax may be null.
template <class Parallel>
void run_roi_pool(const RoiProblem& problem, void* out, uint32_t* argmax, const Parallel& parallel) {
  const RoiBinTable bins(problem, RoiPass::forward);
  const int64_t items = roi_pool_items(problem);
  parallel(items, roi_grain(problem, items), [&](int64_t begin, int64_t end) {
    const RoiScratch scratch(roi_pool_scratch_bytes(problem, argmax != nullptr));
    roi_pool(problem, bins.table(), out, argmax, scratch.get(), begin, end);
  });
}

template <class Parallel>
void run_roi_pool_backward(const RoiProblem& problem, const RoiResult& grad, const uint32_t* argmax, void* grad_input,
                           const Parallel& parallel) {
  const RoiBinTable bins(problem, RoiPass::backward);
  parallel(roi_pool_backward_items(problem), 1, [&](int64_t begin, int64_t end) {
    const RoiScratch scratch(roi_pool_backward_scratch_bytes(problem));
    roi_pool_backward(problem, bins.table(), grad, argmax, grad_input, scratch.get(), begin, end);
  });
}

}  // namespace visionops
