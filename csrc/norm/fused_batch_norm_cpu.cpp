// Batch norm on the CPU, forward: statistics around a value near the mean, then one pass that does all the rest.
#include "norm/fused_batch_norm.h"

#include <cmath>

#include "norm/batch_norm_items.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// Of an item, whose mean is the origin of its sums. Where these lie far from the others, the channel's variance is
// larger than the square of that distance by this share of an item: no digits that count are lost.
constexpr int64_t kFirstRows = 8;

/// Count, mean and sum of squared deviations of some elements.
struct Moments {
  double count, mean, squares;
};

/// From sums of deviations from an origin and of their squares.
inline Moments moments_of_sums(double count, double origin, double sum, double squares) {
  return {count, origin + sum / count, squares - sum * sum / count};
}

/// Of the union of parts, get(p) for p in [0, parts), at least one of them not empty.
template <class Get>
Moments merged(int64_t parts, Get&& get) {
  Moments all = {0, 0, 0};
  for (int64_t p = 0; p < parts; ++p) {
    const Moments part = get(p);
    all.count += part.count;
    all.mean += part.count * part.mean;
  }
  all.mean /= all.count;
  for (int64_t p = 0; p < parts; ++p) {
    const Moments part = get(p);
    const double distance = part.mean - all.mean;
    all.squares += part.squares + part.count * distance * distance;
  }
  return all;
}

template <class T>
struct Forward {
  using C = Compute<T>;

  const BatchNormProblem& problem;
  const Walk walk;
  const T* input;
  const T* residual;

  explicit Forward(const BatchNormProblem& problem)
      : problem(problem),
        walk(problem),
        input(static_cast<const T*>(problem.input)),
        residual(static_cast<const T*>(problem.residual)) {}

  /// Of an item of one channel.
  void moments(int64_t item, double* out) const {
    C buffer[kChunk];
    LaneSums<C> sums;
    C origin = 0;
    int64_t count = 0;
    walk.chunks(item, [&](const Run& run) {
      const C* x = loaded(input + run.first, run.count, buffer);
      if (count == 0) {
        LaneSums<C> first;
        first.add(x, 0, x, 0, run.count);
        origin = static_cast<C>(first.sum() / static_cast<double>(run.count));
      }
      sums.add(x, origin, x, origin, run.count);
      count += run.count;
    });
    const Moments found = moments_of_sums(static_cast<double>(count), origin, sums.sum(), sums.products());
    out[2 * item] = found.mean;
    out[2 * item + 1] = found.squares;
  }

  /// Of all channels in an item of rows, by blocks of columns.
  void moments_by_columns(int64_t item, double* out) const {
    C buffer[kColumns];
    for (int64_t column = 0; column < walk.columns; column += kColumns) {
      const int64_t most = smaller(kColumns, walk.columns - column);
      C origin[kColumns] = {};
      int64_t rows = 0, full = 0, last = 0;
      walk.runs(item, [&](const Run& run) {
        // Only the image's last row may be short; its missing columns count for nothing.
        const int64_t count = larger(smaller(most, run.count - column), 0);
        if (full < kFirstRows && (run.count == walk.columns || rows == 0)) {
          const C* x = loaded(input + run.first + column, count, buffer);
          for (int64_t i = 0; i < count; ++i) origin[i] += x[i];
          ++full;
        }
        ++rows;
        last = count;
      });
      for (int64_t i = 0; i < most; ++i) origin[i] /= static_cast<C>(full);
      ColumnSums<C> sums;
      walk.runs(item, [&](const Run& run) {
        const int64_t count = larger(smaller(most, run.count - column), 0);
        const C* x = loaded(input + run.first + column, count, buffer);
        sums.add(x, origin, x, origin, count);
      });
      const int64_t channels = smaller(most, problem.channels - column);
      for (int64_t c = 0; c < channels; ++c) {
        const Moments found = merged(walk.repeats, [&](int64_t r) {
          const int64_t i = r * problem.channels + c, count = rows - (i < last ? 0 : 1);
          if (count == 0) return Moments{0, 0, 0};
          return moments_of_sums(static_cast<double>(count), origin[i], sums.first[i], sums.second[i]);
        });
        double* to = out + 2 * walk.moments_of(column + c, item);
        to[0] = found.mean;
        to[1] = found.squares;
      }
    }
  }

  void coefficients(const BatchNormChannels& channels, C* out, int64_t begin, int64_t end) const {
    for (int64_t c = begin; c < end; ++c) {
      const C centre = static_cast<C>(channels.mean[c]);
      const double weight = channels.weight == nullptr ? 1 : channels.weight[c];
      const double scale = weight / std::sqrt(channels.var[c] + channels.eps);
      // Far from 0 a rounded mean is off by more than the output's own rounding: the shift takes the rest.
      const double rest = channels.mean[c] - static_cast<double>(centre);
      const double shift = (channels.bias == nullptr ? 0 : channels.bias[c]) - rest * scale;
      spread(centre, out, walk, c);
      spread(scale, out + walk.columns, walk, c);
      spread(shift, out + 2 * walk.columns, walk, c);
    }
  }

  template <int kStep>
  void apply(const Coefficients<C>& coefficients, T* out, uint8_t* bits, int64_t begin, int64_t end) const {
    C buffer_x[kChunk], buffer_r[kChunk], buffer_z[kChunk];
    visit_activation(problem.activation, [&](auto tag) {
      constexpr Activation a = decltype(tag)::activation;
      for (int64_t item = begin; item < end; ++item) {
        walk.chunks(item, [&](const Run& run) {
          const C* x = loaded(input + run.first, run.count, buffer_x);
          const C* r = residual == nullptr ? nullptr : loaded(residual + run.first, run.count, buffer_r);
          C* z = place(out + run.first, buffer_z);
          before_activation<kStep>(x, r, coefficients.from(run.column), run.count, z);
          if constexpr (is_kinked(a)) {
            if (bits != nullptr) write_bits<a>(z, run.count, bits + run.bits);
          }
          if constexpr (a != Activation::none) {
            for (int64_t i = 0; i < run.count; ++i) z[i] = activated<a>(z[i]);
          }
          store(z, run.count, out + run.first);
        });
      }
    });
  }
};

}  // namespace

BatchNormPlan batch_norm_plan(const BatchNormProblem& problem) {
  const Walk walk(problem);
  return {walk.items, walk.items_per_channel, problem.channels * walk.pieces(), walk.columns,
          walk.rows() * walk.row_bits};
}

void batch_norm_moments(const BatchNormProblem& problem, double* moments, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    const Forward<typename decltype(tag)::type> forward(problem);
    for (int64_t item = begin; item < end; ++item) {
      problem.channels_last ? forward.moments_by_columns(item, moments) : forward.moments(item, moments);
    }
  });
}

void batch_norm_statistics(const BatchNormProblem& problem, const double* moments, double* mean, double* var,
                           int64_t begin, int64_t end) {
  const Walk walk(problem);
  for (int64_t c = begin; c < end; ++c) {
    const Moments all = merged(walk.pieces(), [&](int64_t p) {
      const double* of = moments + 2 * walk.moments_of(c, p);
      return Moments{static_cast<double>(walk.count_of(p)), of[0], of[1]};
    });
    mean[c] = all.mean;
    var[c] = all.squares < 0 ? 0 : all.squares / all.count;
  }
}

void batch_norm_coefficients(const BatchNormProblem& problem, const BatchNormChannels& channels, void* coefficients,
                             int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Forward<T>(problem).coefficients(channels, static_cast<Compute<T>*>(coefficients), begin, end);
  });
}

void fused_batch_norm(const BatchNormProblem& problem, const void* coefficients, void* out, uint8_t* bits,
                      int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Forward<T> forward(problem);
    const Coefficients<Compute<T>> by(coefficients, forward.walk.columns);
    problem.channels_last ? forward.template apply<1>(by, static_cast<T*>(out), bits, begin, end)
                          : forward.template apply<0>(by, static_cast<T*>(out), bits, begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
