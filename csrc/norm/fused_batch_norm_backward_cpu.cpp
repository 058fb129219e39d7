// Batch norm on the CPU, backward: two sums of each channel, then one pass for the gradients of input and residual.
#include <cmath>

#include "norm/batch_norm_items.h"
#include "norm/fused_batch_norm.h"

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
        coefficients(coefficients, walk.columns),
        input(static_cast<const T*>(problem.input)),
        residual(static_cast<const T*>(problem.residual)),
        grad(static_cast<const T*>(gradient.grad)) {}

  /// The gradient of a run before the activation: grad itself, or computed into `inner`.
  template <Activation a, int kStep>
  const C* before(const Run& run, const C* x, C* inner) const {
    C buffer_g[kChunk];
    if constexpr (a == Activation::none) return loaded(grad + run.first, run.count, inner);
    const C* g = loaded(grad + run.first, run.count, buffer_g);
    if constexpr (is_kinked(a)) {
      times_slope_of_bits<a>(gradient.bits + run.bits, g, run.count, inner);
    } else {
      C buffer_r[kChunk], z[kChunk];
      const C* r = residual == nullptr ? nullptr : loaded(residual + run.first, run.count, buffer_r);
      before_activation<kStep>(x, r, coefficients.from(run.column), run.count, z);
      for (int64_t i = 0; i < run.count; ++i) inner[i] = g[i] * slope<a>(z[i]);
    }
    return inner;
  }

  /// Of an item of one channel.
  template <Activation a>
  void sums(int64_t item, double* out) const {
    C buffer_x[kChunk], buffer_g[kChunk];
    LaneSums<C> sums;
    walk.chunks(item, [&](const Run& run) {
      const C* x = loaded(input + run.first, run.count, buffer_x);
      sums.add(before<a, 0>(run, x, buffer_g), 0, x, coefficients.centre[run.column], run.count);
    });
    out[2 * item] = sums.sum();
    out[2 * item + 1] = sums.products();
  }

  /// Of all channels in an item of rows, by blocks of columns.
  template <Activation a>
  void sums_by_columns(int64_t item, double* out) const {
    static constexpr C kNone[kColumns] = {};
    C buffer_x[kColumns], buffer_g[kColumns];
    for (int64_t column = 0; column < walk.columns; column += kColumns) {
      ColumnSums<C> sums;
      walk.runs(item, [&](const Run& row) {
        const int64_t count = smaller(smaller(kColumns, walk.columns - column), row.count - column);
        if (count <= 0) return;
        const Run run = {row.first + column, count, column, row.bits + column / 8};
        const C* x = loaded(input + run.first, count, buffer_x);
        sums.add(before<a, 1>(run, x, buffer_g), kNone, x, coefficients.centre + column, count);
      });
      const int64_t channels = smaller(kColumns, problem.channels - column);
      for (int64_t c = 0; c < channels; ++c) {
        double* to = out + 2 * walk.moments_of(column + c, item);
        to[0] = to[1] = 0;
        for (int64_t r = 0; r < walk.repeats; ++r) {
          to[0] += sums.first[r * problem.channels + c];
          to[1] += sums.second[r * problem.channels + c];
        }
      }
    }
  }

  template <Activation a, int kStep>
  void apply(T* grad_input, T* grad_residual, int64_t begin, int64_t end) const {
    C buffer_x[kChunk], buffer_g[kChunk], buffer_out[kChunk];
    for (int64_t item = begin; item < end; ++item) {
      walk.chunks(item, [&](const Run& run) {
        const C* x = input == nullptr ? nullptr : loaded(input + run.first, run.count, buffer_x);
        C* inner_place = grad_residual == nullptr ? buffer_g : place(grad_residual + run.first, buffer_g);
        const C* inner = before<a, kStep>(run, x, inner_place);
        if (grad_residual != nullptr) store(inner, run.count, grad_residual + run.first);
        C* to = place(grad_input + run.first, buffer_out);
        finish<kStep>(inner, x, coefficients.from(run.column), run.count, to);
        store(to, run.count, grad_input + run.first);
      });
    }
  }

  template <int kStep>
  void finish(const C* __restrict inner, const C* __restrict x, const Coefficients<C>& by, int64_t n,
              C* __restrict out) const {
    const C* __restrict centre = by.centre, * __restrict scale = by.scale;
    const C* __restrict response = by.response, * __restrict constant = by.constant;
    if (gradient.training) {
      for (int64_t i = 0; i < n; ++i) {
        out[i] = inner[i] * scale[kStep * i] + ((x[i] - centre[kStep * i]) * response[kStep * i] + constant[kStep * i]);
      }
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = inner[i] * scale[kStep * i];
    }
  }
};

}  // namespace

void batch_norm_backward_sums(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                              const void* coefficients, double* sums, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto dtype) {
    const Backward<typename decltype(dtype)::type> backward(problem, gradient, coefficients);
    visit_activation(problem.activation, [&](auto tag) {
      constexpr Activation a = decltype(tag)::activation;
      for (int64_t item = begin; item < end; ++item) {
        problem.channels_last ? backward.template sums_by_columns<a>(item, sums)
                              : backward.template sums<a>(item, sums);
      }
    });
  });
}

void batch_norm_backward_coefficients(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                                      const BatchNormChannels& channels, const double* sums, double* grad_weight,
                                      double* grad_bias, void* coefficients, int64_t begin, int64_t end) {
  const Walk walk(problem);
  const double count = static_cast<double>(problem.batch * problem.pixels);
  visit_floating(problem.dtype, [&](auto tag) {
    using C = Compute<typename decltype(tag)::type>;
    C* const arrays = static_cast<C*>(coefficients);
    for (int64_t c = begin; c < end; ++c) {
      double sum = 0, products = 0;
      for (int64_t p = 0; p < walk.pieces(); ++p) {
        sum += sums[2 * walk.moments_of(c, p)];
        products += sums[2 * walk.moments_of(c, p) + 1];
      }
      // The products are with x - centre; the mean differs from the centre by its rounding.
      const double rest = channels.mean[c] - static_cast<double>(arrays[c]);
      const double inverse = 1 / std::sqrt(channels.var[c] + channels.eps);
      grad_bias[c] = sum;
      grad_weight[c] = (products - rest * sum) * inverse;
      if (!gradient.training) continue;
      const double scale = (channels.weight == nullptr ? 1 : channels.weight[c]) * inverse;
      const double response = -scale * inverse * grad_weight[c] / count;
      spread(response, arrays + 3 * walk.columns, walk, c);
      spread(-scale * sum / count - response * rest, arrays + 4 * walk.columns, walk, c);
    }
  });
}

void fused_batch_norm_backward(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                               const void* coefficients, void* grad_input, void* grad_residual, int64_t begin,
                               int64_t end) {
  visit_floating(problem.dtype, [&](auto dtype) {
    using T = typename decltype(dtype)::type;
    const Backward<T> backward(problem, gradient, coefficients);
    auto *to_input = static_cast<T*>(grad_input), *to_residual = static_cast<T*>(grad_residual);
    visit_activation(problem.activation, [&](auto tag) {
      constexpr Activation a = decltype(tag)::activation;
      problem.channels_last ? backward.template apply<a, 1>(to_input, to_residual, begin, end)
                            : backward.template apply<a, 0>(to_input, to_residual, begin, end);
    });
  });
}

}  // namespace visionops::VISIONOPS_ISA
