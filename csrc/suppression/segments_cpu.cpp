// Ranks boxes by a radix sort of their scores, groups them by one of their classes, and collects what a stage kept.
#include "suppression/segments.h"

#include <limits>

#include "common/sort.h"
#include "suppression/segment_workspace.h"

namespace visionops::VISIONOPS_ISA {
namespace {

template <class T>
void mark_ordered(const T* boxes, int64_t n, uint8_t* ordered) {
  for (int64_t i = 0; i < n; ++i) {
    const auto box = load_box(boxes + 4 * i);
    ordered[i] = !__builtin_isunordered(box.x1, box.x2) & !__builtin_isunordered(box.y1, box.y2);
  }
}

/// Writes the boxes that take part, by descending score, to `order`, and returns how many.
template <class S>
int64_t order_by_score(const Candidates& candidates, const S* scores, const uint8_t* ordered, char* scratch,
                       int32_t* order) {
  using Entry = Keyed<decltype(descending_key(to_compute(S{})))>;
  Entry* const entries = reinterpret_cast<Entry*>(scratch);
  const auto threshold = static_cast<Compute<S>>(candidates.score_threshold);
  const auto least = candidates.rescored ? Compute<S>(0) : -std::numeric_limits<Compute<S>>::infinity();
  int64_t count = 0;
  for (int64_t i = 0; i < candidates.n; ++i) {
    const auto score = to_compute(scores[i]);
    const bool passes = candidates.has_score_threshold ? score > threshold : score == score;
    entries[count] = Entry{descending_key(score), static_cast<int32_t>(i)};
    count += passes & (score >= least) & (ordered[i] != 0);
  }
  const Entry* const sorted = sort_by_key(entries, entries + candidates.n, count);
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

/// Writes the boxes that are left, by descending decayed score, to `order`, and returns how many. C is the type that
/// scores decay in, which holds every one of them exactly.
template <class C>
int64_t order_by_decayed(const double* decayed, int64_t n, char* scratch, int32_t* order) {
  using Entry = Keyed<decltype(descending_key(C{}))>;
  Entry* const entries = reinterpret_cast<Entry*>(scratch);
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    entries[count] = Entry{descending_key(static_cast<C>(decayed[i])), static_cast<int32_t>(i)};
    count += decayed[i] == decayed[i];
  }
  const Entry* const sorted = sort_by_key(entries, entries + n, count);
  for (int64_t r = 0; r < count; ++r) order[r] = sorted[r].index;
  return count;
}

}  // namespace

int64_t workspace_bytes(const Candidates& candidates) { return Workspace(candidates, nullptr).bytes; }

void rank_candidates(const Candidates& candidates, void* workspace, int64_t begin, int64_t end) {
  const Workspace all(candidates, workspace);
  for (int64_t image = begin; image < end; ++image) {
    const Workspace own = all.at(candidates, image);
    const int64_t first = image * candidates.n;
    memset(own.kept, 1, candidates.n);
    if (candidates.boxes != nullptr) {
      visit_number(candidates.boxes_dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        mark_ordered(boxes_of<T>(candidates, image), candidates.n, own.kept);
      });
    }
    int64_t count = 0;
    visit_floating(candidates.scores_dtype, [&](auto tag) {
      using S = typename decltype(tag)::type;
      const S* const scores = static_cast<const S*>(candidates.scores) + first;
      count = order_by_score(candidates, scores, own.kept, own.scratch, own.order);
      if (!candidates.rescored) return;
      for (int64_t i = 0; i < candidates.n; ++i) own.decayed[i] = std::numeric_limits<double>::quiet_NaN();
      for (int64_t r = 0; r < count; ++r) own.decayed[own.order[r]] = to_compute(scores[own.order[r]]);
    });
    all.ranked[image] = count;
    all.segments[image] = count > 0;
    if (candidates.classes != nullptr) {
      all.segments[image] =
          group_by_class(candidates.classes + first, own.order, count, own.scratch, own.grouped, own.starts);
    }
    memset(own.kept, 0, count);
  }
}

int64_t count_segments(const Candidates& candidates, void* workspace) {
  const Workspace all(candidates, workspace);
  int64_t total = 0;
  for (int64_t image = 0; image < candidates.images; ++image) {
    all.first_segment[image] = total;
    total += all.segments[image];
  }
  all.first_segment[candidates.images] = total;
  return total;
}

void rank_decayed(const Candidates& candidates, void* workspace, int64_t begin, int64_t end) {
  const Workspace all(candidates, workspace);
  for (int64_t image = begin; image < end; ++image) {
    const Workspace own = all.at(candidates, image);
    visit_floating(candidates.scores_dtype, [&](auto tag) {
      using C = Compute<typename decltype(tag)::type>;
      all.ranked[image] = order_by_decayed<C>(own.decayed, candidates.n, own.scratch, own.order);
    });
  }
}

int64_t kept_count(const Candidates& candidates, const void* workspace, int64_t image) {
  const Workspace all(candidates, workspace);
  const uint8_t* const kept = all.at(candidates, image).kept;
  int64_t count = candidates.rescored ? all.ranked[image] : 0;
  for (int64_t r = 0; !candidates.rescored && r < all.ranked[image]; ++r) count += kept[r];
  return smaller(count, candidates.max_output);
}

void collect_kept(const Candidates& candidates, const void* workspace, int64_t image, int64_t* indices, void* scores) {
  const Workspace own = Workspace(candidates, workspace).at(candidates, image);
  const int64_t total = kept_count(candidates, workspace, image);
  int64_t count = 0;
  for (int64_t r = 0; count < total; ++r) {
    indices[count] = own.order[r];
    count += candidates.rescored || own.kept[r];
  }
  if (!candidates.rescored) return;
  visit_floating(candidates.scores_dtype, [&](auto tag) {
    using S = typename decltype(tag)::type;
    for (int64_t i = 0; i < total; ++i) {
      static_cast<S*>(scores)[i] = from_compute<S>(static_cast<Compute<S>>(own.decayed[indices[i]]));
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
