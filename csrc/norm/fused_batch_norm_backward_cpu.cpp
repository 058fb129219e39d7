// Batch norm on the CPU, backward: two sums of each channel, then one pass for the gradients of input and residual.
#include <cmath>

#include "norm/batch_norm_sums.h"
#include "norm/batch_norm_values.h"

namespace visionops::VISIONOPS_ISA {
namespace {

template <class T>
struct Backward {
  using C = Compute<T>;

  const BatchNormProblem& problem;
  const BatchNormGradient& gradient;
  const Walk walk;
  const Coefficients<C> coefficients;
  const T* input;
  const T* residual;
  const T* grad;

  Backward(const BatchNormProblem& problem, const BatchNormGradient& gradient, const void* coefficients)
      : problem(problem),
        gradient(gradient),
        walk(problem),
        coefficients(coefficients, walk.coefficients),
        input(static_cast<const T*>(problem.input)),
        residual(static_cast<const T*>(problem.residual)),
        grad(static_cast<const T*>(gradient.grad)) {}

  /// The input of a run as it is computed with: read or, where the output overwrote it, rebuilt.
  const C* input_of(const Run& run, C* buffer) const {
    if (!gradient.from_output) return loaded(input + run.first, run.count, buffer);
    alignas(64) C buffer_z[kChunk];
    const C* z = loaded(input + run.first, run.count, buffer_z);
    rebuilt(problem.activation, problem.channels_last, z, coefficients.from(run.column), run.count, buffer);
    return buffer;
  }

  /// The gradient of a run before the activation: grad itself, or computed into `inner`.
  const C* before(const Run& run, const C* x, C* inner) const {
    if (problem.activation == Activation::none) return loaded(grad + run.first, run.count, inner);
    alignas(64) C buffer_g[kChunk];
    const C* g = loaded(grad + run.first, run.count, buffer_g);
    if (is_kinked(problem.activation)) {
      times_slope_of_bits(problem.activation, gradient.bits + run.bits, g, run.count, inner);
    } else {
      alignas(64) C buffer_r[kChunk], z[kChunk];
      const C* r = residual == nullptr ? nullptr : loaded(residual + run.first, run.count, buffer_r);
      normalised(Activation::none, problem.channels_last, x, r, coefficients.from(run.column), run.count, z);
      times_slope(problem.activation, z, g, run.count, inner);
    }
    return inner;
  }

  /// Of an item of one channel.
  void sums(int64_t item, double* of_grad, double* of_products) const {
    alignas(64) C buffer_x[kChunk], buffer_g[kChunk];
    LaneSums<C> sums;
    walk.chunks(item, [&](const Run& run) {
      const C* x = input_of(run, buffer_x);
      const Centred<C> centred = {x, coefficients.centre[run.column]};
      if (is_kinked(problem.activation)) {
        with_sloped(problem.activation, gradient.bits + run.bits, loaded(grad + run.first, run.count, buffer_g),
                    [&](const auto& sloped) { sums.add(sloped, centred, run.count); });
      } else {
        sums.add(Centred<C>{before(run, x, buffer_g), 0}, centred, run.count);
      }
    });
    const Walk::Piece piece = walk.piece_of(item);
    const int64_t to = walk.moments_of(piece.channel, piece.p);
    of_grad[to] = sums.sum();
    of_products[to] = sums.products();
  }

  /// Of all channels in an item of rows, by blocks of columns.
  void sums_by_columns(int64_t item, double* of_grad, double* of_products) const {
    constexpr int kRows = ColumnSums<C>::kRows;
    static constexpr C kNone[kColumns] = {};
    alignas(64) C buffers_x[kRows][kColumns], buffers_g[kRows][kColumns];
    for (int64_t column = 0; column < walk.columns; column += kColumns) {
      const int64_t columns = smaller(kColumns, walk.columns - column);
      const C* const centre = coefficients.centre + column;
      const C *x[kRows], *g[kRows];
      ColumnSums<C> sums;
      const auto load = [&](int64_t row, int64_t count, int to) {
        const Run run = {row * walk.columns + column, count, column, row * walk.row_bits + column / 8};
        x[to] = input_of(run, buffers_x[to]);
        g[to] = before(run, x[to], buffers_g[to]);
      };
      const int64_t end = walk.first_row(item + 1);
      int64_t row = walk.first_row(item);
      for (; walk.full_rows(row, kRows, end); row += kRows) {
        for (int r = 0; r < kRows; ++r) load(row + r, columns, r);
        sums.add_rows(g, kNone, x, centre, columns);
      }
      for (; row < end; ++row) {
        const int64_t count = smaller(columns, walk.row_run(row).count - column);
        load(row, count, 0);
        sums.add(g[0], kNone, x[0], centre, count);
      }
      const int64_t channels = columns / walk.repeats, to = walk.moments_of(column, item);
      folded(sums.first, walk.repeats, channels, of_grad + to);
      folded(sums.second, walk.repeats, channels, of_products + to);
    }
  }

  void apply(T* grad_input, T* grad_residual, int64_t begin, int64_t end) const {
    alignas(64) C buffer_x[kChunk], buffer_g[kChunk], buffer_out[kChunk];
    const Results<T> results = {false};
    walk.chunks(begin, end, [&](const Run& run) {
      const C* x = input == nullptr ? nullptr : input_of(run, buffer_x);
      C* inner_place = grad_residual == nullptr ? buffer_g : results.place(grad_residual + run.first, buffer_g);
      const C* inner = before(run, x, inner_place);
      if (grad_residual != nullptr) results.store(inner, run.count, grad_residual + run.first);
      C* to = results.place(grad_input + run.first, buffer_out);
      const Coefficients<C> by = coefficients.from(run.column);
      problem.channels_last ? backward_of_scaled<1>(inner, x, gradient.training, by, run.count, to)
                            : backward_of_scaled<0>(inner, x, gradient.training, by, run.count, to);
      results.store(to, run.count, grad_input + run.first);
    });
  }
};

template <class C>
void write_backward_coefficients(const Walk& walk, const BatchNormGradient& gradient, const BatchNormChannels& channels,
                                 double* __restrict grad_weight, const double* __restrict grad_bias,
                                 C* __restrict arrays, int64_t begin, int64_t end) {
  const double share = 1 / static_cast<double>(walk.problem.batch * walk.problem.pixels);
  const double* __restrict mean = channels.mean, * __restrict var = channels.var;
  // The products are with x - centre; the mean differs from the centre by its rounding.
  const auto rest = [&](int64_t c) { return mean[c] - static_cast<double>(arrays[c]); };
  for (int64_t c = begin; c < end; ++c) {
    grad_weight[c] = (grad_weight[c] - rest(c) * grad_bias[c]) / std::sqrt(var[c] + channels.eps);
  }
  if (!gradient.training) return;
  C *const response = arrays + 3 * walk.coefficients, *const constant = response + walk.coefficients;
  for (int64_t c = begin; c < end; ++c) {
    const double inverse = 1 / std::sqrt(var[c] + channels.eps);
    const double scale = (channels.weight == nullptr ? 1 : channels.weight[c]) * inverse;
    const double exact = -scale * inverse * grad_weight[c] * share;
    response[c] = static_cast<C>(exact);
    constant[c] = static_cast<C>(-scale * grad_bias[c] * share - exact * rest(c));
  }
  for (C* array : {response, constant}) spread(array, walk, begin, end);
}

}  // namespace

void batch_norm_backward_sums(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                              const void* coefficients, double* sums, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    const Backward<typename decltype(tag)::type> backward(problem, gradient, coefficients);
    double* const products = sums + problem.channels * backward.walk.pieces();
    for (int64_t item = begin; item < end; ++item) {
      problem.channels_last ? backward.sums_by_columns(item, sums, products) : backward.sums(item, sums, products);
    }
  });
}

void batch_norm_backward_coefficients(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                                      const BatchNormChannels& channels, const double* sums,
                                      double* __restrict grad_weight, double* __restrict grad_bias, void* coefficients,
                                      int64_t begin, int64_t end) {
  const Walk walk(problem);
  const int64_t products = problem.channels * walk.pieces(), step = walk.moments_of(1, 0);
  for (int64_t c = begin; c < end; ++c) grad_weight[c] = grad_bias[c] = 0;
  for (int64_t p = 0; p < walk.pieces(); ++p) {
    const double* __restrict of_grad = sums + walk.moments_of(0, p);
    for (int64_t c = begin; c < end; ++c) {
      grad_bias[c] += of_grad[step * c];
      grad_weight[c] += of_grad[step * c + products];
    }
  }
  const auto write = [&](auto* arrays) {
    write_backward_coefficients(walk, gradient, channels, grad_weight, grad_bias, arrays, begin, end);
  };
  problem.dtype == DType::f64 ? write(static_cast<double*>(coefficients)) : write(static_cast<float*>(coefficients));
}

void fused_batch_norm_backward(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                               const void* coefficients, void* grad_input, void* grad_residual, int64_t begin,
                               int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Backward<T>(problem, gradient, coefficients)
        .apply(static_cast<T*>(grad_input), static_cast<T*>(grad_residual), begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
