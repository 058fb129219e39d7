// Greedy and fast non-maximum suppression on the CPU: each box against those near it that came before.
#include "suppression/nms.h"

#include "suppression/kept_boxes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Marks what stays of a segment, by rank, until `limit` boxes do. In fast NMS every box joins those that suppress.
template <class T, class C = Compute<T>>
void mark_kept(const SegmentBoxes<T>& segment, KeptBoxes<C> earlier, const Rule<C>& rule, bool fast, int64_t limit,
               uint8_t* kept) {
  constexpr int64_t kAhead = 8;
  for (int64_t i = 0; i < segment.size && limit > 0; ++i) {
    if (i + kAhead < segment.size) __builtin_prefetch(segment.address(i + kAhead));
    const Candidate<C> candidate(load_box(segment.address(i)), rule.offset);
    if (candidate.interacts()) {
      const bool suppressed = earlier.suppress(candidate);
      if (fast || !suppressed) earlier.add(candidate);
      if (suppressed) continue;
    }
    kept[segment.rank(i)] = 1;
    --limit;
  }
}

template <class T>
void suppress_segment(const NmsProblem& problem, const SegmentBoxes<T>& segment, uint8_t* kept) {
  using C = Compute<T>;
  using Kept = KeptBoxes<C>;
  static_assert(Kept::bytes(kSmallSegment, kSmallSegment / kBoxesPerCell) <= kSmallSegment * kScratchBytes);
  const C threshold = static_cast<C>(problem.iou_threshold);
  if (!(threshold >= 0 && threshold < 1)) {
    // An IoU is in [0, 1]: every pair exceeds such a threshold, or none does.
    const int64_t stay = smaller(problem.max_output, threshold < 0 ? 1 : segment.size);
    for (int64_t i = 0; i < stay && i < segment.size; ++i) kept[segment.rank(i)] = 1;
    return;
  }
  const Rule<C> rule(threshold, static_cast<C>(problem.pixel_offset));
  if (segment.size <= kSmallSegment) {
    alignas(64) char memory[Kept::bytes(kSmallSegment, 1)];
    mark_kept(segment, Kept(rule, Grid{}, memory), rule, problem.fast, problem.max_output, kept);
  } else {
    const Grid grid = lay_out_grid(segment, rule.exceeds, rule.offset);
    mark_kept(segment, Kept(rule, grid, segment.scratch), rule, problem.fast, problem.max_output, kept);
  }
}

}  // namespace

void nms_suppress(const NmsProblem& problem, void* workspace, int64_t begin, int64_t end) {
  for_segments(problem, workspace, begin, end, [&](const Segment& segment, const Workspace& own, int64_t image) {
    visit_number(problem.boxes_dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      suppress_segment(problem, SegmentBoxes<T>(segment, boxes_of<T>(problem, image)), own.kept);
    });
  });
}

}  // namespace visionops::VISIONOPS_ISA
