// A depthwise convolution feeding a pointwise one on the CPU: its values go straight into the product, in cache.
#include "conv/depthwise.h"
#include "conv/depthwise_taps.h"
#include "conv/depthwise_values.h"
#include "conv/finished_planes.h"
#include "conv/finished_product.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Rows that are computed: the depthwise values of neighbouring positions, where channels are last.
template <class T>
struct DepthwiseRows {
  using C = Compute<T>;

  const ConvolutionProblem& d;
  const C* filters;

  explicit DepthwiseRows(const SeparableProblem& problem)
      : d(problem.depthwise), filters(static_cast<const C*>(problem.filters)) {}

  void fill(int64_t row, int64_t rows, C* to, int64_t step) const {
    depthwise_rows<T>(d, row, rows, 0, d.groups, filters, to, step);
  }

  // The pixels of each window's lower right corner, which no window before it has met.
  void prefetch(int64_t row, int64_t rows) const {
    const int64_t first_i = d.y.taps > d.y.step ? d.y.taps - d.y.step : 0;
    const int64_t first_j = d.x.taps > d.x.step ? d.x.taps - d.x.step : 0;
    Position at(d.y, d.x, row);
    for (int64_t r = 0; r < rows; ++r, at.advance(d.y, d.x)) {
      const WindowAt<T> window(d, at);
      for (int64_t i = first_i; i < d.y.taps; ++i) {
        const int64_t y = window.y + i * d.y.tap_step;
        if (y < 0 || y >= d.y.size) continue;
        for (int64_t j = first_j; j < d.x.taps; ++j) {
          const int64_t x = window.x + j * d.x.tap_step;
          if (x < 0 || x >= d.x.size) continue;
          const T* pixel = window.corner + (i * d.y.tap_step * d.x.size + j * d.x.tap_step) * d.groups;
          for (int64_t c = 0; c < d.groups; c += kLine / sizeof(T)) prefetch_line(pixel + c);
        }
      }
    }
  }
};

/// For sums too long for the scratch: factors of a product that takes them in parts.
template <class T>
struct SeparableLast : ChannelsLast<T> {
  using C = Compute<T>;

  const ConvolutionProblem& d;
  const C* filters;

  explicit SeparableLast(const SeparableProblem& problem)
      : ChannelsLast<T>(problem.pointwise, 0), d(problem.depthwise), filters(static_cast<const C*>(problem.filters)) {}

  void pack_left(int64_t row, int64_t count, int64_t k, int64_t terms, C* to) const {
    depthwise_rows<T>(d, row, count, k, terms, filters, to, kRowStride<C>);
  }
};

/// Panels that are computed: the depthwise values of neighbouring positions, where channels come first.
template <class T>
struct DepthwiseColumns {
  using C = Compute<T>;

  const ConvolutionProblem& d;
  const C* filters;

  void fill(int64_t column, int64_t columns, C* to, int64_t stride) const {
    depthwise_columns<T>(d, column, columns, 0, d.groups, filters, to, stride);
  }
};

/// The same where channels come first.
template <class T>
struct SeparableFirst : ChannelsFirst<T> {
  using C = Compute<T>;

  const ConvolutionProblem& d;
  const C* filters;

  explicit SeparableFirst(const SeparableProblem& problem)
      : ChannelsFirst<T>(problem.pointwise, 0), d(problem.depthwise), filters(static_cast<const C*>(problem.filters)) {}

  void pack_right(int64_t column, int64_t count, int64_t k, int64_t terms, C* to) const {
    depthwise_columns<T>(d, column, count, k, terms, filters, to, 0);
  }
};

template <class T>
int64_t piece_of(const FinishedProduct<T, DepthwiseRows<T>>& product) {
  return product.piece();
}

/// Other products pack as much for a piece as for a share.
template <class Other>
int64_t piece_of(const Other&) {
  return 0;
}

/// Calls f with the product of the problem.
template <class F>
void visit_separable(const SeparableProblem& problem, void* scratch, F&& f) {
  visit_floating(problem.depthwise.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    using Rows = FinishedProduct<T, DepthwiseRows<T>>;
    using Columns = FinishedPlanes<T, DepthwiseColumns<T>>;
    const ConvolutionProblem& d = problem.depthwise;
    if (d.channels_last && Rows::panels_fitting(d.groups) > 0) {
      f(Rows(problem.pointwise, DepthwiseRows<T>(problem), scratch));
    } else if (d.channels_last) {
      const SeparableLast<T> factors(problem);
      f(Product<C, SeparableLast<T>>(factors, scratch));
    } else if (Columns::panels_fitting(d.groups) > 0) {
      const DepthwiseColumns<T> columns = {d, static_cast<const C*>(problem.filters)};
      f(Columns(problem.pointwise, columns, scratch));
    } else {
      const SeparableFirst<T> factors(problem);
      f(Product<C, SeparableFirst<T>>(factors, scratch));
    }
  });
}

}  // namespace

SeparableWork separable_work(const SeparableProblem& problem) {
  SeparableWork work;
  visit_separable(problem, nullptr, [&](const auto& product) { work = {product.items(), piece_of(product)}; });
  return work;
}

void separable(const SeparableProblem& problem, void* scratch, int64_t begin, int64_t end, Rest& rest) {
  visit_separable(problem, scratch, [&](auto&& product) {
    product.run(begin, end);
    for (int64_t at; (at = rest.next.fetch_add(rest.piece, std::memory_order_relaxed)) < rest.end;) {
      product.run(at, at + rest.piece < rest.end ? at + rest.piece : rest.end);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
