// IoU of boxes on the CPU, backward: each box of one side sums the gradients of its pairs, in a fixed order.
#include "boxes/box_iou.h"

#include "boxes/box_iou_pair.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kMostRows = 16;
constexpr int64_t kLeastColumns = 16;
constexpr int64_t kMostColumns = 64;

// Rows of a wide gradient lie a page apart, where no processor prefetches by itself: ask this many rows ahead.
constexpr int64_t kRowsAhead = 8;

// Terms that a float sum takes before it is added to a double: few enough to lose no digit that counts.
constexpr int64_t kRun = 32;
static_assert(kTile / kRun == 16, "a tile gives each lane of float one run");

template <class T>
constexpr T clamped(T value, T low, T high) {
  return value < low ? low : value > high ? high : value;
}

// Items are small where boxes are few, such as ground truth against anchors: there must be some for every thread.
int64_t boxes_per_item(const BoxIouProblem& problem, int side) {
  if (problem.aligned) return kTile;
  if (side == 1) return clamped<int64_t>(problem.batch * problem.n / 64, 1, kMostRows);
  return clamped<int64_t>(problem.batch * problem.m / 64 / kLeastColumns * kLeastColumns, kLeastColumns, kMostColumns);
}

/// Adds grad[k] times the gradient of pair (mine[i + kStepMine k], theirs[j + kStepTheirs k]) to sums[k], or, where
/// all pairs are of one box of mine, to sums[k % lanes]. count is a multiple of the lanes.
template <IouMode mode, bool mine_first, int kStepMine, int kStepTheirs, class C>
void add_gradients(const Tile<C>& mine, int64_t i, const Tile<C>& theirs, int64_t j, const C* __restrict grad,
                   int64_t count, C offset, Tile<C>& __restrict sums) {
  for (int64_t first = 0; first < count; first += kLanes<C>) {
    const int64_t to = kStepMine * first;
    for (int64_t lane = 0; lane < kLanes<C>; ++lane) {
      const int64_t k = first + lane;
      const MeasuredBox<C> pair =
          pair_gradient<mode, mine_first>(mine[i + kStepMine * k], theirs[j + kStepTheirs * k], offset);
      sums.x1[to + lane] += grad[k] * pair.box.x1;
      sums.y1[to + lane] += grad[k] * pair.box.y1;
      sums.x2[to + lane] += grad[k] * pair.box.x2;
      sums.y2[to + lane] += grad[k] * pair.box.y2;
      sums.area[to + lane] += grad[k] * pair.area;
      if constexpr (mode == IouMode::ciou) sums.angle[to + lane] += grad[k] * pair.angle;
    }
  }
}

template <class C>
using AddGradients = decltype(&add_gradients<IouMode::iou, true, 1, 1, C>);

template <bool mine_first, int kStepMine, int kStepTheirs, class C>
AddGradients<C> pick_gradients(IouMode mode) {
  return visit_mode(mode, [](auto tag) -> AddGradients<C> {
    return add_gradients<decltype(tag)::mode, mine_first, kStepMine, kStepTheirs, C>;
  });
}

/// Adds boxes [0, count) of sums to those of totals.
template <class C>
void add_boxes(const Tile<C>& sums, int64_t count, Tile<double>& totals) {
  for (int64_t k = 0; k < count; ++k) {
    totals.x1[k] += sums.x1[k];
    totals.y1[k] += sums.y1[k];
    totals.x2[k] += sums.x2[k];
    totals.y2[k] += sums.y2[k];
    totals.area[k] += sums.area[k];
    totals.angle[k] += sums.angle[k];
  }
}

/// Adds the lanes of sums, which are of one box, to box i of totals.
template <class C>
void add_lanes(const Tile<C>& sums, Tile<double>& totals, int64_t i) {
  for (int64_t lane = 0; lane < kLanes<C>; ++lane) {
    totals.x1[i] += sums.x1[lane];
    totals.y1[i] += sums.y1[lane];
    totals.x2[i] += sums.x2[lane];
    totals.y2[i] += sums.y2[lane];
    totals.area[i] += sums.area[lane];
    totals.angle[i] += sums.angle[lane];
  }
}

template <class T>
struct Backward {
  using C = Compute<T>;

  const BoxIouProblem& problem;
  const T* mine;
  const T* theirs;
  const T* grad;
  T* grad_mine;
  int64_t per_item;
  C offset;
  bool with_angle;

  Backward(const BoxIouProblem& problem, int side, const void* grad, void* grad_boxes)
      : problem(problem),
        mine(static_cast<const T*>(side == 1 ? problem.boxes1 : problem.boxes2)),
        theirs(static_cast<const T*>(side == 1 ? problem.boxes2 : problem.boxes1)),
        grad(static_cast<const T*>(grad)),
        grad_mine(static_cast<T*>(grad_boxes)),
        per_item(boxes_per_item(problem, side)),
        offset(static_cast<C>(problem.pixel_offset)),
        with_angle(problem.mode == IouMode::ciou) {}

  static int64_t padded(int64_t count) { return blocks(count, kLanes<C>) * kLanes<C>; }

  /// Fills up the last vector with empty boxes, whose incoming gradient load_grad makes 0.
  void load_boxes(Tile<C>& tile, const T* boxes, int64_t count) const {
    tile.load(boxes, count, offset, with_angle);
    tile.fill_zero(count, padded(count));
  }

  static void load_grad(const T* from, int64_t count, C* to) {
    if constexpr (std::is_same_v<T, C>) {
      for (int64_t k = 0; k < count; ++k) to[k] = from[k];
    } else {
      widen(from, to, count);
    }
    for (int64_t k = count; k < padded(count); ++k) to[k] = 0;
  }

  static void prefetch(const T* from, int64_t count) {
    for (int64_t k = 0; k < count; k += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(from + k);
  }

  /// Not inline: it is called in four places.
  [[gnu::noinline]] void store(const Tile<C>& boxes, const Tile<double>& totals, int64_t count, T* to) const {
    for (int64_t k = 0; k < count; ++k) {
      const Box<double> box = {boxes.x1[k], boxes.y1[k], boxes.x2[k], boxes.y2[k]};
      const Box<double> sum = coordinate_gradient(box, totals[k], static_cast<double>(offset));
      to[4 * k] = gradient_from<T>(sum.x1);
      to[4 * k + 1] = gradient_from<T>(sum.y1);
      to[4 * k + 2] = gradient_from<T>(sum.x2);
      to[4 * k + 3] = gradient_from<T>(sum.y2);
    }
  }

  template <bool mine_first>
  void aligned(int64_t begin, int64_t end) const {
    const auto add = pick_gradients<mine_first, 1, 1, C>(problem.mode);
    const int64_t total = problem.batch * problem.n;
    Tile<C> my_boxes, their_boxes, sums;
    Tile<double> totals;
    alignas(64) C weights[kTile];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item * kTile, count = smaller(kTile, total - first);
      load_boxes(my_boxes, mine + 4 * first, count);
      load_boxes(their_boxes, theirs + 4 * first, count);
      load_grad(grad + first, count, weights);
      sums.fill_zero(0, padded(count));
      totals.fill_zero(0, count);
      add(my_boxes, 0, their_boxes, 0, weights, padded(count), offset, sums);
      add_boxes(sums, count, totals);
      store(my_boxes, totals, count, grad_mine + 4 * first);
    }
  }

  void rows(int64_t begin, int64_t end) const {
    const auto add = pick_gradients<true, 0, 1, C>(problem.mode);
    const int64_t n = problem.n, m = problem.m, row_blocks = blocks(n, per_item);
    Tile<C> my_boxes, their_boxes, sums;
    Tile<double> totals;
    alignas(64) C weights[kTile];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t batch = item / row_blocks, row = item % row_blocks * per_item;
      const int64_t row_count = smaller(per_item, n - row);
      my_boxes.load(mine + 4 * (batch * n + row), row_count, offset, with_angle);
      totals.fill_zero(0, row_count);
      for (int64_t column = 0; column < m; column += kTile) {
        const int64_t count = smaller(kTile, m - column);
        load_boxes(their_boxes, theirs + 4 * (batch * m + column), count);
        for (int64_t i = 0; i < row_count; ++i) {
          load_grad(grad + (batch * n + row + i) * m + column, count, weights);
          sums.fill_zero(0, kLanes<C>);
          add(my_boxes, i, their_boxes, 0, weights, padded(count), offset, sums);
          add_lanes(sums, totals, i);
        }
      }
      store(my_boxes, totals, row_count, grad_mine + 4 * (batch * n + row));
    }
  }

  void columns(int64_t begin, int64_t end) const {
    const auto add = pick_gradients<false, 1, 0, C>(problem.mode);
    const int64_t n = problem.n, m = problem.m, column_blocks = blocks(m, per_item);
    Tile<C> my_boxes, their_boxes, sums;
    Tile<double> totals;
    alignas(64) C weights[kMostColumns];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t batch = item / column_blocks, column = item % column_blocks * per_item;
      const int64_t count = smaller(per_item, m - column);
      load_boxes(my_boxes, mine + 4 * (batch * m + column), count);
      totals.fill_zero(0, count);
      for (int64_t row = 0; row < n; row += kRun) {
        const int64_t row_count = smaller(kRun, n - row);
        their_boxes.load(theirs + 4 * (batch * n + row), row_count, offset, with_angle);
        sums.fill_zero(0, padded(count));
        for (int64_t i = 0; i < row_count; ++i) {
          const T* from = grad + (batch * n + row + i) * m + column;
          if (row + i + kRowsAhead < n) prefetch(from + kRowsAhead * m, count);
          load_grad(from, count, weights);
          add(my_boxes, 0, their_boxes, i, weights, padded(count), offset, sums);
        }
        add_boxes(sums, count, totals);
      }
      store(my_boxes, totals, count, grad_mine + 4 * (batch * m + column));
    }
  }
};

}  // namespace

int64_t box_iou_backward_items(const BoxIouProblem& problem, int side) {
  const int64_t per_item = boxes_per_item(problem, side);
  if (problem.aligned) return blocks(problem.batch * problem.n, per_item);
  return problem.batch * blocks(side == 1 ? problem.n : problem.m, per_item);
}

void box_iou_backward(const BoxIouProblem& problem, int side, const void* grad, void* grad_boxes, int64_t begin,
                      int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    const Backward<typename decltype(tag)::type> backward(problem, side, grad, grad_boxes);
    if (problem.aligned) {
      side == 1 ? backward.template aligned<true>(begin, end) : backward.template aligned<false>(begin, end);
    } else {
      side == 1 ? backward.rows(begin, end) : backward.columns(begin, end);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
