// IoU of boxes on the CPU, forward: a tile of columns on the stack, rows run against it, nothing else stored.
#include "boxes/box_iou.h"

#include "boxes/box_iou_pair.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kRows = 64;

// Up to here a row is too short for vectors: lanes run over the rows instead, and the result is transposed.
constexpr int64_t kNarrow = 15;

bool is_narrow(const BoxIouProblem& problem) { return problem.m <= kNarrow; }

int64_t rows_per_item(const BoxIouProblem& problem) { return is_narrow(problem) ? kTile : kRows; }

// Tiles of about one size, in whole cache lines of the result: a last tile of few columns would be slow.
int64_t columns_per_item(const BoxIouProblem& problem) {
  return blocks(blocks(problem.m, blocks(problem.m, kTile)), kLanes<float>) * kLanes<float>;
}

/// out[k] = the value of boxes a[i + kStepA k] and b[j + kStepB k]: a step of 0 pairs one box with many.
template <IouMode mode, bool with_offset, int kStepA, int kStepB, class C>
void pair_values(const Tile<C>& a, int64_t i, const Tile<C>& b, int64_t j, int64_t count, C offset, C* __restrict out) {
  const MeasuredBox<C> one_a = a[i], one_b = b[j];
  const auto value = [&](int64_t k) {
    return pair_value<mode, with_offset>(kStepA ? a[i + k] : one_a, kStepB ? b[j + k] : one_b, offset);
  };
  if (count < kLanes<C>) {
    for (int64_t k = 0; k < count; ++k) out[k] = value(k);
    return;
  }
  for (int64_t first = 0; first < count; first += kLanes<C>) {
    // The last vector reaches back over values that stand already: cheaper than a tail of single ones.
    const int64_t from = smaller(first, count - kLanes<C>);
    for (int64_t k = from; k < from + kLanes<C>; ++k) out[k] = value(k);
  }
}

template <class C>
using PairValues = decltype(&pair_values<IouMode::iou, true, 1, 1, C>);

template <int kStepA, int kStepB, class C>
PairValues<C> pick_values(IouMode mode, C offset) {
  // Of the other modes it would be no more than one instruction in twenty.
  if (mode == IouMode::iou && offset == 0) return pair_values<IouMode::iou, false, kStepA, kStepB, C>;
  return visit_mode(
      mode, [](auto tag) -> PairValues<C> { return pair_values<decltype(tag)::mode, true, kStepA, kStepB, C>; });
}

/// The forward pass over boxes of type T: items of each shape of result.
template <class T>
struct Forward {
  using C = Compute<T>;
  using R = Result<T>;

  const BoxIouProblem& problem;
  const T* boxes1;
  const T* boxes2;
  R* out;
  C offset;
  bool with_angle;

  Forward(const BoxIouProblem& problem, void* out)
      : problem(problem),
        boxes1(static_cast<const T*>(problem.boxes1)),
        boxes2(static_cast<const T*>(problem.boxes2)),
        out(static_cast<R*>(out)),
        offset(static_cast<C>(problem.pixel_offset)),
        with_angle(problem.mode == IouMode::ciou) {}

  /// Calls fill with a place for count values, then sees to it that they stand at `to`.
  template <class Fill>
  static void store(R* to, int64_t count, Fill&& fill) {
    if constexpr (std::is_same_v<R, C>) {
      fill(to);
    } else {
      alignas(64) C wide[kTile];
      fill(wide);
      narrow(wide, to, count);
    }
  }

  void aligned(int64_t begin, int64_t end) const {
    const auto values = pick_values<1, 1, C>(problem.mode, offset);
    const int64_t total = problem.batch * problem.n;
    Tile<C> a, b;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item * kTile, count = smaller(kTile, total - first);
      a.load(boxes1 + 4 * first, count, offset, with_angle);
      b.load(boxes2 + 4 * first, count, offset, with_angle);
      store(out + first, count, [&](C* place) { values(a, 0, b, 0, count, offset, place); });
    }
  }

  void wide(int64_t begin, int64_t end) const {
    const auto values = pick_values<0, 1, C>(problem.mode, offset);
    const int64_t n = problem.n, m = problem.m, width = columns_per_item(problem);
    const int64_t row_blocks = blocks(n, kRows), tiles = blocks(m, width);
    Tile<C> rows, columns;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t batch = item / tiles / row_blocks, row = item / tiles % row_blocks * kRows;
      const int64_t column = item % tiles * width;
      const int64_t row_count = smaller(kRows, n - row), count = smaller(width, m - column);
      rows.load(boxes1 + 4 * (batch * n + row), row_count, offset, with_angle);
      columns.load(boxes2 + 4 * (batch * m + column), count, offset, with_angle);
      for (int64_t i = 0; i < row_count; ++i) {
        store(out + (batch * n + row + i) * m + column, count,
              [&](C* place) { values(rows, i, columns, 0, count, offset, place); });
      }
    }
  }

  void narrow_rows(int64_t begin, int64_t end) const {
    const auto values = pick_values<1, 0, C>(problem.mode, offset);
    const int64_t n = problem.n, m = problem.m, row_blocks = blocks(n, kTile);
    Tile<C> rows, columns;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t batch = item / row_blocks, row = item % row_blocks * kTile, count = smaller(kTile, n - row);
      rows.load(boxes1 + 4 * (batch * n + row), count, offset, with_angle);
      columns.load(boxes2 + 4 * batch * m, m, offset, with_angle);
      R* to = out + (batch * n + row) * m;
      for (int64_t j = 0; j < m; ++j) {
        alignas(64) C column[kTile];
        values(rows, 0, columns, j, count, offset, column);
        for (int64_t i = 0; i < count; ++i) to[i * m + j] = from_compute<R>(column[i]);
      }
    }
  }
};

}  // namespace

int64_t box_iou_items(const BoxIouProblem& problem) {
  if (problem.aligned) return blocks(problem.batch * problem.n, kTile);
  const int64_t row_blocks = blocks(problem.n, rows_per_item(problem));
  return problem.m == 0 ? 0 : problem.batch * row_blocks * blocks(problem.m, columns_per_item(problem));
}

void box_iou(const BoxIouProblem& problem, void* out, int64_t begin, int64_t end) {
  visit_number(problem.dtype, [&](auto tag) {
    const Forward<typename decltype(tag)::type> forward(problem, out);
    if (problem.aligned) {
      forward.aligned(begin, end);
    } else if (is_narrow(problem)) {
      forward.narrow_rows(begin, end);
    } else {
      forward.wide(begin, end);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
