// Matrix non-maximum suppression on the CPU: a block of boxes, one a lane, against all better ones in turn.
#include "suppression/matrix_nms.h"

#include <limits>
#include <type_traits>

#include "boxes/mask_overlap.h"
#include "common/exponential.h"
#include "suppression/segment_workspace.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int kLanes = kMatrixNmsBlock;

constexpr int64_t blocks_of(int64_t size) { return (size + kLanes - 1) / kLanes; }

/// Hands out the arrays of a segment from its part of the scratch, each filled up to whole blocks.
class Arena {
 public:
  static constexpr int64_t bytes(int64_t size, int64_t bytes_each) {
    return 64 + blocks_of(size) * kLanes * bytes_each;
  }

  Arena(char* memory, int64_t size)
      : next_(memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64), count_(blocks_of(size) * kLanes) {}

  template <class E>
  void take(E*& array) {
    array = reinterpret_cast<E*>(next_);
    next_ += count_ * int64_t{sizeof(E)};
  }

 private:
  char* next_;
  int64_t count_;
};

/// Boxes that compute in C, best first; what fills up the last block overlaps nothing.
template <class C>
class Boxes {
 public:
  using Iou = C;
  static constexpr int64_t kBytes = 6 * sizeof(C);

  template <class T>
  Boxes(const SegmentBoxes<T>& segment, int pixel_offset, char* memory)
      : size(segment.size), offset_(static_cast<C>(pixel_offset)) {
    Arena arena(memory, size);
    arena.take(x1_);
    arena.take(y1_);
    arena.take(x2_);
    arena.take(y2_);
    arena.take(area_);
    arena.take(worst);
  }

  template <class T>
  void gather(const SegmentBoxes<T>& segment) {
    constexpr C inf = std::numeric_limits<C>::infinity();
    for (int64_t i = 0; i < blocks_of(size) * kLanes; ++i) {
      Box<C> box{inf, 0, -inf, 0};
      C its_area = 0;
      if (i < size) {
        const Box<C> own = load_box(segment.address(i));
        its_area = area(own, offset_);
        // A box of no, infinite or NaN area has an IoU of 0 with every box.
        const bool interacts = its_area > 0 && its_area <= std::numeric_limits<C>::max();
        if (interacts) box = own;
      }
      x1_[i] = box.x1;
      y1_[i] = box.y1;
      x2_[i] = box.x2;
      y2_[i] = box.y2;
      area_[i] = its_area;
    }
  }

  /// Writes the IoU of box `better` with the kLanes boxes from `first` on; returns whether any is not 0.
  bool overlaps(int64_t better, int64_t first, C* iou) const {
    const C *x1 = x1_ + first, *y1 = y1_ + first, *x2 = x2_ + first, *y2 = y2_ + first, *areas = area_ + first;
    const Box<C> box{x1_[better], y1_[better], x2_[better], y2_[better]};
    C common[kLanes];
    Lane any = 0;
    for (int i = 0; i < kLanes; ++i) {
      const C width = (smaller(x2[i], box.x2) - larger(x1[i], box.x1)) + offset_;
      const C height = (smaller(y2[i], box.y2) - larger(y1[i], box.y1)) + offset_;
      common[i] = larger(width, C(0)) * larger(height, C(0));
      any |= common[i] > 0;
    }
    if (any == 0) return false;
    for (int i = 0; i < kLanes; ++i) iou[i] = share(common[i], (area_[better] + areas[i]) - common[i]);
    return true;
  }

  int64_t size;
  C* worst;  // of each, its largest IoU with a better one

 private:
  using Lane = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;  // GCC 12 vectorises over one width alone

  C offset_;
  C *x1_, *y1_, *x2_, *y2_, *area_;
};

/// Masks, best first.
class Masks {
 public:
  using Iou = double;
  static constexpr int64_t kBytes = sizeof(double);

  Masks(const Segment& segment, const PackedMasks& masks, int64_t first_of_image, char* memory)
      : size(segment.size), segment_(segment), masks_(masks), first_(first_of_image) {
    Arena(memory, size).take(worst);
  }

  bool overlaps(int64_t better, int64_t first, double* iou) const {
    const int64_t mine = first_ + segment_.index(better);
    bool any = false;
    for (int i = 0; i < kLanes; ++i) {
      const int64_t other = first + i;
      iou[i] = other > better && other < size ? mask_iou_of(masks_, mine, masks_, first_ + segment_.index(other)) : 0;
      any |= iou[i] > 0;
    }
    return any;
  }

  int64_t size;
  double* worst;

 private:
  Segment segment_;
  PackedMasks masks_;
  int64_t first_;
};

/// Calls body(better, iou, first) for each of the block's better ones that overlaps it; an IoU that is not with a
/// better one is 0.
template <class Things, class Body>
void for_better(const Things& things, int64_t first, const Body& body) {
  typename Things::Iou iou[kLanes];
  for (int64_t i = 0; i < first + kLanes - 1 && i < things.size; ++i) {
    if (!things.overlaps(i, first, iou)) continue;
    for (int64_t k = 0; first + k <= i && k < kLanes; ++k) iou[k] = 0;
    body(i, iou);
  }
}

template <class Things>
void find_worst(const Things& things, int64_t block) {
  using Iou = typename Things::Iou;
  Iou worst[kLanes] = {};
  for_better(things, block * kLanes, [&](int64_t, const Iou* iou) {
    for (int k = 0; k < kLanes; ++k) worst[k] = larger(worst[k], iou[k]);
  });
  for (int k = 0; k < kLanes; ++k) things.worst[block * kLanes + k] = worst[k];
}

/// Pairs that do not overlap change nothing: gaussian, for 0 is the least exponent; linear, for 1 is the largest
/// factor.
template <class S, class Things>
void decay(const MatrixNmsProblem& problem, const Things& things, const Segment& segment, int64_t block,
           double* scores) {
  using Iou = typename Things::Iou;
  const bool gaussian = problem.kernel == MatrixNmsKernel::gaussian;
  S factor[kLanes];
  for (S& f : factor) f = gaussian ? 0 : 1;
  for_better(things, block * kLanes, [&](int64_t i, const Iou* iou) {
    const S its_worst = static_cast<S>(things.worst[i]);
    if (gaussian) {
      for (int k = 0; k < kLanes; ++k) {
        const S own = static_cast<S>(iou[k]);
        factor[k] = larger(factor[k], (own - its_worst) * (own + its_worst));
      }
    } else if (its_worst < 1) {
      for (int k = 0; k < kLanes; ++k) factor[k] = smaller(factor[k], (1 - static_cast<S>(iou[k])) / (1 - its_worst));
    }
  });
  // Not infinite: it would make a NaN of no overlap.
  const S sigma = static_cast<S>(smaller(problem.sigma, double{std::numeric_limits<S>::max()}));
  for (int k = 0; k < kLanes; ++k) factor[k] = gaussian ? exponential(-sigma * factor[k]) : factor[k];
  for (int64_t k = 0; k < kLanes && block * kLanes + k < segment.size; ++k) {
    double& score = scores[segment.index(block * kLanes + k)];
    // Nothing is left of an infinite score at factor 0.
    const S decayed = factor[k] > 0 ? static_cast<S>(score) * factor[k] : S(0);
    const bool passes = !problem.has_score_threshold || decayed > static_cast<S>(problem.score_threshold);
    score = passes ? static_cast<double>(decayed) : std::numeric_limits<double>::quiet_NaN();
  }
}

/// Calls body(things, gather) with the boxes or masks of a segment: on `memory`, or in its part of the scratch.
template <class Body>
void visit_things(const MatrixNmsProblem& problem, const Segment& segment, int64_t image, char* memory,
                  const Body& body) {
  char* const place = memory != nullptr ? memory : segment.scratch;
  if (problem.boxes == nullptr) {
    body(Masks(segment, problem.masks, image * problem.n, place), [] {});
    return;
  }
  visit_number(problem.boxes_dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const SegmentBoxes<T> in_memory(segment, boxes_of<T>(problem, image));
    Boxes<Compute<T>> boxes(in_memory, problem.pixel_offset, place);
    body(boxes, [&] { boxes.gather(in_memory); });
  });
}

template <class Things>
void decay_block(const MatrixNmsProblem& problem, const Things& things, const Segment& segment, int64_t block,
                 double* scores) {
  if (problem.scores_dtype == DType::f64) {
    decay<double>(problem, things, segment, block, scores);
  } else {
    decay<float>(problem, things, segment, block, scores);
  }
}

/// Later blocks have more pairs: items from both ends in turn make equal shares.
int64_t folded(int64_t item, int64_t blocks) { return item % 2 == 0 ? item / 2 : blocks - 1 - item / 2; }

}  // namespace

int64_t segment_size(const MatrixNmsProblem& problem, void* workspace, int64_t segment) {
  int64_t size = 0;
  for_segments(problem, workspace, segment, segment + 1,
               [&](const Segment& of, const Workspace&, int64_t) { size = of.size; });
  return size;
}

void matrix_nms_segments(const MatrixNmsProblem& problem, void* workspace, int64_t most, int64_t begin, int64_t end) {
  for_segments(problem, workspace, begin, end, [&](const Segment& segment, const Workspace& own, int64_t image) {
    if (segment.size > most) return;
    constexpr int64_t kBytes = Boxes<double>::kBytes;
    static_assert(Arena::bytes(kSmallSegment, kBytes) <= kSmallSegment * kRescoringScratchBytes);
    alignas(64) char memory[Arena::bytes(kSmallSegment, kBytes)];
    visit_things(problem, segment, image, segment.size <= kSmallSegment ? memory : nullptr,
                 [&](const auto& things, const auto& gather) {
                   gather();
                   const int64_t blocks = blocks_of(segment.size);
                   for (int64_t block = 0; block < blocks; ++block) find_worst(things, block);
                   for (int64_t block = 0; block < blocks; ++block) {
                     decay_block(problem, things, segment, block, own.decayed);
                   }
                 });
  });
}

void matrix_nms_gather(const MatrixNmsProblem& problem, void* workspace, int64_t segment) {
  for_segments(problem, workspace, segment, segment + 1, [&](const Segment& of, const Workspace&, int64_t image) {
    visit_things(problem, of, image, nullptr, [&](const auto&, const auto& gather) { gather(); });
  });
}

void matrix_nms_overlap(const MatrixNmsProblem& problem, void* workspace, int64_t segment, int64_t begin, int64_t end) {
  for_segments(problem, workspace, segment, segment + 1, [&](const Segment& of, const Workspace&, int64_t image) {
    visit_things(problem, of, image, nullptr, [&](const auto& things, const auto&) {
      for (int64_t item = begin; item < end; ++item) find_worst(things, folded(item, blocks_of(of.size)));
    });
  });
}

void matrix_nms_decay(const MatrixNmsProblem& problem, void* workspace, int64_t segment, int64_t begin, int64_t end) {
  for_segments(problem, workspace, segment, segment + 1, [&](const Segment& of, const Workspace& own, int64_t image) {
    visit_things(problem, of, image, nullptr, [&](const auto& things, const auto&) {
      for (int64_t item = begin; item < end; ++item) {
        decay_block(problem, things, of, folded(item, blocks_of(of.size)), own.decayed);
      }
    });
  });
}

}  // namespace visionops::VISIONOPS_ISA
