// The gradient of a depthwise convolution by its weight on the CPU, where channels are last: sums over all positions.
#include "conv/depthwise.h"
#include "conv/depthwise_taps.h"
#include "conv/factors.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// Parts of the positions, each with sums of its own.
constexpr int64_t kParts = 16;

/// Adds to sums (9, groups) the products of kCount neighbouring positions' gradients, whole vectors of channels, with
/// what their 3x3 windows meet.
template <int kCount, int kStep, class C>
void add_nine_products(const ConvolutionProblem& p, const WindowAt<C>& first, const C* grad, int64_t channels,
                       C* sums) {
  constexpr int kColumns = (kCount - 1) * kStep + 3;
  const int64_t pixel = p.groups, line = p.x.size * pixel;
  bool columns[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    const int64_t x = first.x + c * p.x.tap_step;
    columns[c] = x >= 0 && x < p.x.size;
  }
  for (int64_t channel = 0; channel < channels; channel += kVector<C>) {
    Vector<C> factors[kCount];
#pragma GCC unroll 8
    for (int r = 0; r < kCount; ++r) factors[r] = load(grad + r * pixel + channel);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      const int64_t y = first.y + i * p.y.tap_step;
      if (y < 0 || y >= p.y.size) continue;
      const C* row = first.corner + i * p.y.tap_step * line + channel;
      C* to = sums + i * 3 * pixel + channel;
      Vector<C> products[3];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) products[j] = load(to + j * pixel);
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; ++c) {
        if (!columns[c]) continue;
        const Vector<C> value = load(row + c * p.x.tap_step * pixel);
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) {
          const int r = (c - j) / kStep;
          if (c >= j && r * kStep == c - j && r < kCount) products[j] += value * factors[r];
        }
      }
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) store<C>(products[j], to + j * pixel);
    }
  }
}

template <class C>
using AddNineProducts = void(const ConvolutionProblem& p, const WindowAt<C>& first, const C* grad, int64_t channels,
                             C* sums);

/// The kernel for `count` neighbours, up to kNeighbours.
template <int kStep, class C, int kCount = kNeighbours>
AddNineProducts<C>* add_nine_products_for(int64_t count) {
  if constexpr (kCount > 1) {
    if (count < kCount) return add_nine_products_for<kStep, C, kCount - 1>(count);
  }
  return add_nine_products<kCount, kStep, C>;
}

/// Adds the products of one row of positions to sums (taps, groups).
template <class T, class C>
void add_row(const ConvolutionProblem& p, int64_t row, C* sums) {
  const int64_t width = p.x.positions;
  const T* grad = static_cast<const T*>(p.out) + row * width * p.groups;
  int64_t done = 0;  // channels
  if constexpr (std::is_same_v<T, C>) {
    const bool sharing = p.x.tap_step == 1 && (p.x.step == 1 || p.x.step == 2);
    if (p.y.taps == 3 && p.x.taps == 3) done = p.groups / kVector<C> * kVector<C>;
    for (int64_t x = 0; x < width && done > 0;) {
      const int64_t neighbours = !sharing ? 1 : width - x < kNeighbours ? width - x : kNeighbours;
      const WindowAt<T> window(p, Position(p.y, p.x, row * width + x));
      AddNineProducts<C>* add =
          p.x.step == 1 ? add_nine_products_for<1, C>(neighbours) : add_nine_products_for<2, C>(neighbours);
      add(p, window, grad + x * p.groups, done, sums);
      x += neighbours;
    }
  }
  if (done == p.groups) return;
  Position at(p.y, p.x, row * width);
  for (int64_t x = 0; x < width; ++x, at.advance(p.y, p.x)) {
    const WindowAt<T> window(p, at);
    each_tap(p, window, [&](int64_t tap, int64_t from) {
      for (int64_t c = done; c < p.groups; ++c) {
        sums[tap * p.groups + c] += to_compute(window.corner[from + c]) * to_compute(grad[x * p.groups + c]);
      }
    });
  }
}

}  // namespace

int64_t depthwise_weight_parts(const ConvolutionProblem& problem) {
  const int64_t rows = problem.batch * problem.y.positions;
  return rows < kParts ? rows : kParts;
}

void depthwise_weight(const ConvolutionProblem& problem, void* sums, int64_t begin, int64_t end) {
  const int64_t rows = problem.batch * problem.y.positions, parts = depthwise_weight_parts(problem);
  const int64_t count = problem.y.taps * problem.x.taps * problem.groups;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    for (int64_t part = begin; part < end; ++part) {
      C* to = static_cast<C*>(sums) + part * count;
      for (int64_t i = 0; i < count; ++i) to[i] = C(0);
      for (int64_t row = cut(rows, parts, part); row < cut(rows, parts, part + 1); ++row) add_row<T>(problem, row, to);
    }
  });
}

void depthwise_weight_total(const ConvolutionProblem& problem, const void* sums, void* grad_weight) {
  const int64_t parts = depthwise_weight_parts(problem), taps = problem.y.taps * problem.x.taps;
  const WeightStrides& s = problem.weight_strides;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    const auto* from = static_cast<const C*>(sums);
    auto* weight = static_cast<T*>(grad_weight);
    for (int64_t tap = 0; tap < taps; ++tap) {
      T* to = weight + tap / problem.x.taps * s.row + tap % problem.x.taps * s.column;
      for (int64_t c = 0; c < problem.groups; ++c) {
        C sum = 0;
        for (int64_t part = 0; part < parts; ++part) sum += from[(part * taps + tap) * problem.groups + c];
        to[c * s.group] = from_compute<T>(sum);
      }
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
