// Greedy non-maximum suppression on the CPU: a radix sort, then each box against the kept ones near it.
#include "suppression/nms.h"

#include <cmath>

#include "common/box.h"
#include "common/sort.h"
#include "suppression/kept_boxes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// Measured. Up to kSmallSegment boxes one cell is as fast, and fits on the stack.
constexpr int64_t kSmallSegment = 256;
constexpr int64_t kBoxesPerCell = 32;

/// A box's share of the scratch: two Keyed<uint64_t> while its image is sorted, later its part of the segment's grid.
constexpr int64_t kScratchBytes = 64;

struct Workspace {
  // Per image.
  int64_t* ranked;  // boxes that take part
  int64_t* segments;
  int64_t* first_segment;  // counted over all images; one more entry at the end
  // Per box of an image.
  char* scratch;
  int32_t* order;    // rank -> box
  int32_t* grouped;  // ranks, class by class
  int32_t* starts;   // of the segments in `grouped`; one more entry at the end
  uint8_t* kept;     // by rank
  int64_t bytes = 0;

  Workspace(const NmsProblem& problem, const void* memory) : base_(static_cast<char*>(const_cast<void*>(memory))) {
    const int64_t images = problem.images, boxes = images * problem.n;
    const int64_t classified = problem.classes != nullptr ? boxes : 0;
    take(scratch, boxes * kScratchBytes);
    take(ranked, images);
    take(segments, images);
    take(first_segment, images + 1);
    take(order, boxes);
    take(grouped, classified);
    take(starts, classified + images);
    take(kept, boxes);
  }

  /// The same arrays, those per box starting at image `image`.
  Workspace at(const NmsProblem& problem, int64_t image) const {
    Workspace of_image = *this;
    const int64_t first = image * problem.n;
    of_image.scratch += first * kScratchBytes;
    of_image.order += first;
    of_image.grouped += problem.classes != nullptr ? first : 0;
    of_image.starts += (problem.classes != nullptr ? first : 0) + image;
    of_image.kept += first;
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

template <class T>
void mark_ordered(const T* boxes, int64_t n, uint8_t* ordered) {
  for (int64_t i = 0; i < n; ++i) {
    const auto box = load_box(boxes + 4 * i);
    ordered[i] = !__builtin_isunordered(box.x1, box.x2) & !__builtin_isunordered(box.y1, box.y2);
  }
}

/// Writes the boxes that take part, by descending score, to `order`, and returns how many.
template <class S>
int64_t order_by_score(const NmsProblem& problem, const S* scores, const uint8_t* ordered, char* scratch,
                       int32_t* order) {
  using Entry = Keyed<decltype(descending_key(to_compute(S{})))>;
  Entry* const entries = reinterpret_cast<Entry*>(scratch);
  const auto threshold = static_cast<Compute<S>>(problem.score_threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < problem.n; ++i) {
    const auto score = to_compute(scores[i]);
    const bool passes = problem.has_score_threshold ? score > threshold : score == score;
    entries[count] = Entry{descending_key(score), static_cast<int32_t>(i)};
    count += passes & (ordered[i] != 0);
  }
  const Entry* const sorted = sort_by_key(entries, entries + problem.n, count);
  for (int64_t r = 0; r < count; ++r) order[r] = sorted[r].index;
  return count;
}

/// Writes the ranks class by class, and where each class starts; returns how many classes there are.
int64_t group_by_class(const int64_t* classes, const int32_t* order, int64_t count, char* scratch, int32_t* grouped,
                       int32_t* starts) {
  using Entry = Keyed<uint64_t>;
  Entry* const entries = reinterpret_cast<Entry*>(scratch);
  for (int64_t r = 0; r < count; ++r) {
    entries[r] = Entry{static_cast<uint64_t>(classes[order[r]]), static_cast<int32_t>(r)};
  }
  const Entry* const sorted = sort_by_key(entries, entries + count, count);
  int64_t segments = 0;
  for (int64_t i = 0; i < count; ++i) {
    grouped[i] = sorted[i].index;
    if (i == 0 || sorted[i].key != sorted[i - 1].key) starts[segments++] = static_cast<int32_t>(i);
  }
  starts[segments] = static_cast<int32_t>(count);
  return segments;
}

/// Boxes of one class in one image, best first.
template <class T>
struct Segment {
  const T* boxes;
  const int32_t* order;
  const int32_t* ranks;  // null: 0, 1, 2, ...
  int64_t size;

  int64_t rank(int64_t i) const { return ranks != nullptr ? ranks[i] : i; }
  const T* address(int64_t i) const { return boxes + int64_t{4} * order[rank(i)]; }
};

/// Some of a segment's boxes, each measure sorted: far or huge boxes stand at the ends and do not stretch the grid.
struct Sample {
  static constexpr int kMost = 32;
  double x[kMost], y[kMost], width[kMost], height[kMost];
  int size = 0;

  template <class T>
  void add(const Candidate<T>& box) {
    insert(x, box.x);
    insert(y, box.y);
    insert(width, box.width);
    insert(height, box.height);
    ++size;
  }

 private:
  void insert(double* sorted, double value) {
    int hole = size;
    for (; hole > 0 && sorted[hole - 1] > value; --hole) sorted[hole] = sorted[hole - 1];
    sorted[hole] = value;
  }
};

/// Along one axis: where most centres lie, and the distance from which a box of middling side is suppressed.
struct Span {
  double low, length, reach;

  template <class C>
  Span(const double* centres, const double* sides, int size, const Bound<C>& bound) {
    // The middle three quarters, widened to what the whole would be were it uniform.
    const double first = centres[size / 8], last = centres[size - 1 - size / 8];
    length = (last - first) * 4 / 3;
    low = first - length / 8;
    const double side = sides[size / 2];
    reach = bound.reach * (side + smaller(sides[size - 1], bound.stretch * side));
  }

  Axis divide(double cell, int64_t most) const {
    // Measured: smaller cells than this are too many to visit.
    const double wanted = length / larger(cell, 0.7 * reach);
    const int64_t cells = wanted >= most ? most : wanted >= 1 ? static_cast<int64_t>(wanted) : 1;
    const double per_unit = cells / length;
    // Coordinates among the subnormals or near the largest number: one cell is slow and safe.
    if (!(per_unit > 0x1p-900 && per_unit < 0x1p900)) return Axis{};
    return Axis{low, per_unit, static_cast<int32_t>(cells)};
  }
};

template <class T, class C = Compute<T>>
KeptBoxes<C> lay_out_grid(const Segment<T>& segment, const Rule<C>& rule, char* memory) {
  Sample sample;
  for (int64_t i = 0; i < Sample::kMost; ++i) {
    const Candidate<C> box(load_box(segment.address(segment.size * i / Sample::kMost)), rule.offset);
    if (box.interacts()) sample.add(box);
  }
  if (sample.size == 0) return KeptBoxes<C>(rule, Axis{}, Axis{}, memory);
  const Span across(sample.x, sample.width, sample.size, rule.exceeds);
  const Span down(sample.y, sample.height, sample.size, rule.exceeds);
  const int64_t cells = segment.size / kBoxesPerCell;
  const double cell = std::sqrt(across.length * down.length / cells);
  const Axis x_axis = across.divide(cell, cells);
  return KeptBoxes<C>(rule, x_axis, down.divide(cell, cells / x_axis.cells), memory);
}

/// Marks what stays of a segment, by rank, until `limit` boxes do.
template <class T, class C = Compute<T>>
void mark_kept(const Segment<T>& segment, KeptBoxes<C> kept_boxes, const Rule<C>& rule, int64_t limit, uint8_t* kept) {
  constexpr int64_t kAhead = 8;
  for (int64_t i = 0; i < segment.size && limit > 0; ++i) {
    if (i + kAhead < segment.size) __builtin_prefetch(segment.address(i + kAhead));
    const Candidate<C> candidate(load_box(segment.address(i)), rule.offset);
    if (candidate.interacts()) {
      if (kept_boxes.suppress(candidate)) continue;
      kept_boxes.add(candidate);
    }
    kept[segment.rank(i)] = 1;
    --limit;
  }
}

template <class T>
void suppress_segment(const NmsProblem& problem, const Segment<T>& segment, char* scratch, uint8_t* kept) {
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
    mark_kept(segment, Kept(rule, Axis{}, Axis{}, memory), rule, problem.max_output, kept);
  } else {
    mark_kept(segment, lay_out_grid(segment, rule, scratch), rule, problem.max_output, kept);
  }
}

}  // namespace

int64_t nms_workspace_bytes(const NmsProblem& problem) { return Workspace(problem, nullptr).bytes; }

void nms_rank(const NmsProblem& problem, void* workspace, int64_t begin, int64_t end) {
  const Workspace all(problem, workspace);
  for (int64_t image = begin; image < end; ++image) {
    const Workspace own = all.at(problem, image);
    const int64_t first = image * problem.n;
    visit_number(problem.boxes_dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      mark_ordered(static_cast<const T*>(problem.boxes) + 4 * first, problem.n, own.kept);
    });
    int64_t count = 0;
    visit_floating(problem.scores_dtype, [&](auto tag) {
      using S = typename decltype(tag)::type;
      count = order_by_score(problem, static_cast<const S*>(problem.scores) + first, own.kept, own.scratch, own.order);
    });
    all.ranked[image] = count;
    all.segments[image] = count > 0;
    if (problem.classes != nullptr) {
      all.segments[image] =
          group_by_class(problem.classes + first, own.order, count, own.scratch, own.grouped, own.starts);
    }
    memset(own.kept, 0, count);
  }
}

int64_t nms_segments(const NmsProblem& problem, void* workspace) {
  const Workspace all(problem, workspace);
  int64_t total = 0;
  for (int64_t image = 0; image < problem.images; ++image) {
    all.first_segment[image] = total;
    total += all.segments[image];
  }
  all.first_segment[problem.images] = total;
  return total;
}

void nms_suppress(const NmsProblem& problem, void* workspace, int64_t begin, int64_t end) {
  const Workspace all(problem, workspace);
  int64_t image = 0;
  for (int64_t s = begin; s < end; ++s) {
    while (s >= all.first_segment[image + 1]) ++image;
    const Workspace own = all.at(problem, image);
    const int64_t k = s - all.first_segment[image];
    const int64_t start = problem.classes != nullptr ? own.starts[k] : 0;
    const int64_t stop = problem.classes != nullptr ? own.starts[k + 1] : all.ranked[image];
    visit_number(problem.boxes_dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const Segment<T> segment{static_cast<const T*>(problem.boxes) + 4 * image * problem.n, own.order,
                               problem.classes != nullptr ? own.grouped + start : nullptr, stop - start};
      suppress_segment(problem, segment, own.scratch + start * kScratchBytes, own.kept);
    });
  }
}

int64_t nms_count(const NmsProblem& problem, const void* workspace, int64_t image) {
  const Workspace all(problem, workspace);
  const uint8_t* const kept = all.at(problem, image).kept;
  int64_t count = 0;
  for (int64_t r = 0; r < all.ranked[image]; ++r) count += kept[r];
  return smaller(count, problem.max_output);
}

void nms_collect(const NmsProblem& problem, const void* workspace, int64_t image, int64_t* indices) {
  const Workspace own = Workspace(problem, workspace).at(problem, image);
  const int64_t total = nms_count(problem, workspace, image);
  int64_t count = 0;
  for (int64_t r = 0; count < total; ++r) {
    indices[count] = own.order[r];
    count += own.kept[r];
  }
}

}  // namespace visionops::VISIONOPS_ISA
