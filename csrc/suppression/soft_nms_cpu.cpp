// Soft non-maximum suppression on the CPU: the box taken lowers its neighbours' scores, and a queue of stale scores
// says which is next.
//
// Scores only fall, so what stands in the queue is an upper bound: a box whose score is lower by now goes back with
// that one, and one that is still as good is the best of all. Neighbours come from a grid, cell by cell, each decayed
// in the order in which boxes are taken.
#include "suppression/soft_nms.h"

#include <limits>
#include <type_traits>

#include "common/exponential.h"
#include "suppression/grid.h"
#include "suppression/score_queue.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int kLanes = 16;

/// Boxes that compute in C, cell by cell, with scores that decay in S.
template <class C, class S>
struct DecayingBoxes {
  C *x1, *y1, *x2, *y2, *area;
  S* score;

  void place(int64_t slot, const Candidate<C>& box, S its_score) {
    x1[slot] = box.box.x1;
    y1[slot] = box.box.y1;
    x2[slot] = box.box.x2;
    y2[slot] = box.box.y2;
    area[slot] = box.area;
    score[slot] = its_score;
  }

  /// From now on it overlaps nothing.
  void remove(int64_t slot) {
    x1[slot] = std::numeric_limits<C>::infinity();
    x2[slot] = -std::numeric_limits<C>::infinity();
    y1[slot] = y2[slot] = area[slot] = 0;
  }
};

/// What a box multiplies the scores of those it overlaps by.
template <class C, class S>
struct Decay {
  bool gaussian;
  Rule<C> rule;  // pairs that do not satisfy its bounds do not decay
  S per_square;  // of the IoU, in the exponent

  explicit Decay(const SoftNmsProblem& problem)
      : gaussian(problem.method == SoftNmsMethod::gaussian),
        rule(gaussian ? C(0) : static_cast<C>(problem.iou_threshold), static_cast<C>(problem.pixel_offset)),
        per_square(exponent_per_square<S>(problem.sigma)) {}

  /// Lowers the scores of the slots [begin, end).
  void apply(const Candidate<C>& taken, const DecayingBoxes<C, S>& boxes, int64_t begin, int64_t end) const {
    for (int64_t first = begin / kLanes * kLanes; first < end; first += kLanes) {
      C common[kLanes];
      if (overlaps(taken.box, boxes, first, static_cast<Lane>(begin - first), static_cast<Lane>(end - first), common)) {
        lower(taken, boxes, first, common);
      }
    }
  }

 private:
  using Lane = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;  // GCC 12 vectorises over one width alone

  /// Writes the intersections with kLanes boxes, 0 beside the lanes [from, to); returns whether any is not 0.
  bool overlaps(const Box<C>& taken, const DecayingBoxes<C, S>& boxes, int64_t first, Lane from, Lane to,
                C* common) const {
    const C *x1 = boxes.x1 + first, *y1 = boxes.y1 + first, *x2 = boxes.x2 + first, *y2 = boxes.y2 + first;
    Lane any = 0;
    for (Lane i = 0; i < kLanes; ++i) {
      const C width = (smaller(x2[i], taken.x2) - larger(x1[i], taken.x1)) + rule.offset;
      const C height = (smaller(y2[i], taken.y2) - larger(y1[i], taken.y1)) + rule.offset;
      const C both = larger(width, C(0)) * larger(height, C(0));
      common[i] = (i >= from) & (i < to) ? both : C(0);
      any |= common[i] > 0;
    }
    return any != 0;
  }

  void lower(const Candidate<C>& taken, const DecayingBoxes<C, S>& boxes, int64_t first, const C* common) const {
    S factor[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const C iou = share(common[i], (boxes.area[first + i] + taken.area) - common[i]);
      const S wide = static_cast<S>(iou);
      factor[i] = gaussian ? wide * wide * per_square : iou > rule.threshold ? 1 - wide : S(1);
    }
    if (gaussian) {
      for (int i = 0; i < kLanes; ++i) factor[i] = exponential(factor[i]);
    }
    // Nothing is left of an infinite score at factor 0.
    for (int i = 0; i < kLanes; ++i) {
      boxes.score[first + i] = factor[i] > 0 ? boxes.score[first + i] * factor[i] : S(0);
    }
  }
};

/// A segment's boxes in its part of the scratch, and what it takes to go through them.
template <class C, class S>
class SoftSegment {
  static constexpr int64_t padded(int64_t count) { return (count + 2 * kLanes - 1) / kLanes * kLanes; }

 public:
  static constexpr int64_t bytes(int64_t boxes, int64_t cells) {
    return 64 + padded(boxes) * int64_t{5 * sizeof(C) + sizeof(S)} + boxes * int64_t{sizeof(Entry<S>)} +
           cells * int64_t{sizeof(Box<C>)} + (boxes + cells + 1) * int64_t{sizeof(int32_t)};
  }

  /// `slots`, by index, tells where each box stands.
  template <class T>
  SoftSegment(const SegmentBoxes<T>& segment, const double* scores, const Decay<C, S>& decay, const Grid& grid,
              int32_t* slots, char* memory)
      : decay_(decay), grid_(grid), size_(segment.size), slots_(slots) {
    lay_out(memory);
    sort_into_cells(segment);
    for (int64_t i = 0; i < size_; ++i) {
      const Candidate<C> box(load_box(segment.address(i)), decay.rule.offset);
      const int32_t index = static_cast<int32_t>(segment.index(i)), slot = slots[index];
      const S score = static_cast<S>(scores[index]);
      boxes_.place(slot, box, score);
      entries_[i] = entry_of(score, index);
      if (!box.interacts()) {
        boxes_.remove(slot);
        continue;
      }
      enclose(hulls_[grid.cell(box)], box.box);
      widest_ = larger(widest_, box.width);
      tallest_ = larger(tallest_, box.height);
    }
  }

  /// Takes the best until none is above the threshold or `limit` are taken; `scores`, by index, are then those that
  /// they were taken with, and NaN of the others.
  template <class T>
  void decay_all(const T* boxes_of_image, bool has_threshold, S threshold, int64_t limit, double* scores) {
    for (int64_t i = 0; i < size_; ++i) scores[index_of(entries_[i])] = std::numeric_limits<double>::quiet_NaN();
    Queue<Entry<S>> queue(entries_, size_);
    while (!queue.empty() && limit > 0) {
      const Entry<S> best = queue.take_least();
      const int32_t index = index_of(best), slot = slots_[index];
      const S score = boxes_.score[slot];
      if (has_threshold && !(score > threshold)) {
        boxes_.remove(slot);  // most boxes of a crowd are soon out, and no neighbours any more
        continue;
      }
      const Entry<S> now = entry_of(score, index);
      if (now != best) {
        queue.put_back(now);
        continue;
      }
      boxes_.remove(slot);
      scores[index] = static_cast<double>(score);
      --limit;
      const Candidate<C> taken(load_box(boxes_of_image + int64_t{4} * index), decay_.rule.offset);
      if (taken.interacts()) lower_neighbours(taken);
    }
  }

 private:
  void lay_out(char* memory) {
    char* next = memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64;
    const auto take = [&](auto*& array, int64_t count) {
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(next);
      next += count * int64_t{sizeof(*array)};
    };
    const int64_t slots = padded(size_);
    take(boxes_.x1, slots);
    take(boxes_.y1, slots);
    take(boxes_.x2, slots);
    take(boxes_.y2, slots);
    take(boxes_.area, slots);
    take(boxes_.score, slots);
    take(entries_, size_);
    take(hulls_, grid_.cells());
    take(starts_, grid_.cells() + 1);
    take(cell_of_, size_);
    for (int64_t slot = size_; slot < slots; ++slot) {
      boxes_.remove(slot);
      boxes_.score[slot] = 0;
    }
    constexpr C inf = std::numeric_limits<C>::infinity();
    for (int64_t c = 0; c < grid_.cells(); ++c) hulls_[c] = Box<C>{inf, inf, -inf, -inf};
  }

  static void enclose(Box<C>& hull, const Box<C>& box) {
    hull = {smaller(hull.x1, box.x1), smaller(hull.y1, box.y1), larger(hull.x2, box.x2), larger(hull.y2, box.y2)};
  }

  /// No box of a cell overlaps one that its hull does not overlap.
  bool overlaps(const Box<C>& hull, const Box<C>& box) const {
    const C offset = decay_.rule.offset;
    return (smaller(hull.x2, box.x2) - larger(hull.x1, box.x1)) + offset > 0 &&
           (smaller(hull.y2, box.y2) - larger(hull.y1, box.y1)) + offset > 0;
  }

  /// Gives each box a slot, cell by cell, best first.
  template <class T>
  void sort_into_cells(const SegmentBoxes<T>& segment) {
    for (int64_t c = 0; c <= grid_.cells(); ++c) starts_[c] = 0;
    for (int64_t i = 0; i < size_; ++i) {
      const Candidate<C> box(load_box(segment.address(i)), decay_.rule.offset);
      cell_of_[i] = box.interacts() ? static_cast<int32_t>(grid_.cell(box)) : 0;
      ++starts_[cell_of_[i] + 1];
    }
    for (int64_t c = 0; c < grid_.cells(); ++c) starts_[c + 1] += starts_[c];
    for (int64_t i = 0; i < size_; ++i) slots_[segment.index(i)] = starts_[cell_of_[i]]++;
    for (int64_t c = grid_.cells(); c > 0; --c) starts_[c] = starts_[c - 1];
    starts_[0] = 0;
  }

  void lower_neighbours(const Candidate<C>& taken) {
    const Bound<C>& bound = decay_.rule.bound(taken.area);
    const double dx = reach(bound, decay_.rule.offset, taken.x, taken.width, widest_);
    const double dy = reach(bound, decay_.rule.offset, taken.y, taken.height, tallest_);
    const int32_t left = grid_.x.cell(taken.x - dx), right = grid_.x.cell(taken.x + dx);
    const int32_t top = grid_.y.cell(taken.y - dy), bottom = grid_.y.cell(taken.y + dy);
    for (int32_t row = top; row <= bottom; ++row) {
      const int64_t first = int64_t{row} * grid_.x.cells;
      for (int64_t cell = first + left; cell <= first + right; ++cell) {
        if (!overlaps(hulls_[cell], taken.box)) continue;
        const int64_t begin = cell;
        while (cell < first + right && overlaps(hulls_[cell + 1], taken.box)) ++cell;
        decay_.apply(taken, boxes_, starts_[begin], starts_[cell + 1]);
      }
    }
  }

  static int32_t index_of(Entry<S> entry) { return static_cast<int32_t>(entry); }

  Decay<C, S> decay_;
  Grid grid_;
  int64_t size_;
  DecayingBoxes<C, S> boxes_;
  Entry<S>* entries_;
  int32_t* slots_;
  Box<C>* hulls_;  // of each cell
  int32_t *starts_, *cell_of_;
  double widest_ = 0, tallest_ = 0;
};

template <class S, class T>
void decay_segment(const SoftNmsProblem& problem, const SegmentBoxes<T>& segment, int32_t* slots, double* scores) {
  using Soft = SoftSegment<Compute<T>, S>;
  constexpr int64_t kCells = kSmallSegment / kBoxesPerCell;
  static_assert(Soft::bytes(kSmallSegment, kCells) <= kSmallSegment * kRescoringScratchBytes);
  const Decay<Compute<T>, S> decay(problem);
  const S threshold = static_cast<S>(problem.score_threshold);
  const auto go = [&](const Grid& grid, char* memory) {
    Soft(segment, scores, decay, grid, slots, memory)
        .decay_all(segment.boxes, problem.has_score_threshold, threshold, problem.max_output, scores);
  };
  if (segment.size <= kSmallSegment) {
    alignas(64) char memory[Soft::bytes(kSmallSegment, 1)];
    go(Grid{}, memory);
  } else {
    go(lay_out_grid(segment, decay.rule.exceeds, decay.rule.offset), segment.scratch);
  }
}

}  // namespace

void soft_nms_decay(const SoftNmsProblem& problem, void* workspace, int64_t begin, int64_t end) {
  for_segments(problem, workspace, begin, end, [&](const Segment& segment, const Workspace& own, int64_t image) {
    visit_number(problem.boxes_dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const SegmentBoxes<T> boxes(segment, boxes_of<T>(problem, image));
      if (problem.scores_dtype == DType::f64) {
        decay_segment<double>(problem, boxes, own.slots, own.decayed);
      } else {
        decay_segment<float>(problem, boxes, own.slots, own.decayed);
      }
    });
  });
}

}  // namespace visionops::VISIONOPS_ISA
