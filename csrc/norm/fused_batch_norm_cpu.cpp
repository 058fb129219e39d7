// Batch norm on the CPU, forward: statistics around a value near the mean, then one pass that does all the rest.
#include "norm/fused_batch_norm.h"

#include <cmath>

#include "norm/batch_norm_sums.h"
#include "norm/batch_norm_values.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// One in so many elements of an item, the first ones, or a few where that is less, have their mean as the origin of its
// sums. Where they lie far from the rest, the channel's variance holds their distance too: of its digits no more are
// lost than an item is larger than they.
constexpr int64_t kItemOfFirst = 32, kLeastElements = 32, kLeastRows = 4;

/// In float where it is of few.
template <class T>
Compute<T> mean_of(const T* x, int64_t n) {
  using C = Compute<T>;
  if (n < kLanes<C>) {
    C sum = to_compute(x[0]);
    for (int64_t i = 1; i < n; ++i) sum += to_compute(x[i]);
    return sum / static_cast<C>(n);
  }
  LaneSums<C> sums;
  const Centred<T> values = {x, 0};
  sums.add(values, values, n);
  return static_cast<C>(sums.sum() / static_cast<double>(n));
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
  void moments(int64_t item, double* mean, double* squares) const {
    const Walk::Piece piece = walk.piece_of(item);
    const int64_t count = walk.count_of(piece.p), to = walk.moments_of(piece.channel, piece.p);
    LaneSums<C> sums;
    C origin = 0;
    bool is_first = true;
    walk.runs(item, [&](const Run& run) {
      const T* x = input + run.first;
      if (is_first) origin = mean_of(x, smaller(run.count, larger(count / kItemOfFirst, kLeastElements)));
      is_first = false;
      const Centred<T> centred = {x, origin};
      sums.add(centred, centred, run.count);
    });
    const double sum = sums.sum(), share = 1 / static_cast<double>(count);
    mean[to] = static_cast<double>(origin) + sum * share;
    squares[to] = sums.products() - sum * sum * share;
  }

  /// Of all channels in an item of rows, by blocks of columns.
  void moments_by_columns(int64_t item, double* mean, double* squares) const {
    for (int64_t column = 0; column < walk.columns; column += kColumns) {
      const int64_t columns = smaller(kColumns, walk.columns - column);
      const int64_t channels = smaller(columns, problem.channels);
      alignas(64) C origin[kColumns] = {};
      mean_of_first_rows(item, column, columns, origin);
      ColumnSums<C> sums;
      add_rows(item, column, columns, origin, sums);
      double first[kColumns], second[kColumns];
      folded(sums.first, walk.repeats, channels, first);
      folded(sums.second, walk.repeats, channels, second);
      const double share = 1 / static_cast<double>(walk.count_of(item));
      const int64_t to = walk.moments_of(column, item);
      for (int64_t c = 0; c < channels; ++c) {
        mean[to + c] = static_cast<double>(origin[c]) + first[c] * share;
        squares[to + c] = second[c] - first[c] * first[c] * share;
      }
    }
  }

  /// The same origin in every column of a channel.
  void mean_of_first_rows(int64_t item, int64_t column, int64_t columns, C* origin) const {
    alignas(64) C buffer[kColumns];
    const int64_t first = walk.first_row(item), rows = walk.first_row(item + 1) - first;
    const int64_t end = first + smaller(rows, larger(rows / kItemOfFirst, kLeastRows));
    int64_t elements = 0;
    for (int64_t row = first; row < end; ++row) {
      const Run run = walk.row_run(row);
      const int64_t count = smaller(columns, run.count - column);
      const C* x = loaded(input + run.first + column, count, buffer);
      for (int64_t i = 0; i < count; ++i) origin[i] += x[i];
      elements += count;
    }
    const int64_t channels = columns / walk.repeats;
    double sums[kColumns];
    folded(origin, walk.repeats, channels, sums);
    const double share = static_cast<double>(channels) / static_cast<double>(elements);
    for (int64_t r = 0; r < walk.repeats; ++r) {
      for (int64_t c = 0; c < channels; ++c) origin[r * channels + c] = static_cast<C>(sums[c] * share);
    }
  }

  void add_rows(int64_t item, int64_t column, int64_t columns, const C* origin, ColumnSums<C>& sums) const {
    constexpr int kRows = ColumnSums<C>::kRows;
    alignas(64) C buffers[kRows][kColumns];
    const C* rows[kRows];
    const auto load = [&](int64_t row, int64_t count, int to) {
      rows[to] = loaded(input + row * walk.columns + column, count, buffers[to]);
    };
    const int64_t end = walk.first_row(item + 1);
    int64_t row = walk.first_row(item);
    for (; walk.full_rows(row, kRows, end); row += kRows) {
      for (int r = 0; r < kRows; ++r) load(row + r, columns, r);
      sums.add_rows(rows, origin, rows, origin, columns);
    }
    for (; row < end; ++row) {
      const int64_t count = smaller(columns, walk.row_run(row).count - column);
      load(row, count, 0);
      sums.add(rows[0], origin, rows[0], origin, count);
    }
  }

  void apply(const Coefficients<C>& coefficients, T* out, uint8_t* bits, int64_t begin, int64_t end) const {
    alignas(64) C buffer_x[kChunk], buffer_r[kChunk], buffer_z[kChunk];
    const Results<T> results = {out == input};
    const bool writes_bits = bits != nullptr && is_kinked(problem.activation);
    walk.chunks(begin, end, [&](const Run& run) {
      if constexpr (!std::is_same_v<T, C>) {
        if (!writes_bits && is_bounds(problem.activation)) return apply_bounds(coefficients, run, out);
      }
      const C* x = loaded(input + run.first, run.count, buffer_x);
      const C* r = residual == nullptr ? nullptr : loaded(residual + run.first, run.count, buffer_r);
      C* z = results.place(out + run.first, buffer_z);
      normalised(problem.activation, problem.channels_last, x, r, coefficients.from(run.column), run.count, z);
      // A kinked activation leaves a value on its side of the kinks.
      if (writes_bits) write_bits(problem.activation, z, run.count, bits + run.bits);
      results.store(z, run.count, out + run.first);
    });
  }

 private:
  void apply_bounds(const Coefficients<C>& coefficients, const Run& run, T* out) const {
    const T* const other = residual == nullptr ? nullptr : residual + run.first;
    (problem.channels_last ? scaled_narrow<1, T>
                           : scaled_narrow<0, T>)(input + run.first, other, coefficients.from(run.column),
                                                  Bounds<C>(problem.activation), run.count, out + run.first);
  }
};

template <class C>
void write_coefficients(const Walk& walk, const BatchNormChannels& channels, C* out, int64_t begin, int64_t end) {
  const double* __restrict mean = channels.mean, * __restrict var = channels.var;
  C* __restrict centre = out, * __restrict scale = centre + walk.coefficients;
  C* __restrict shift = scale + walk.coefficients;
  for (int64_t c = begin; c < end; ++c) {
    centre[c] = static_cast<C>(mean[c]);
    const double weight = channels.weight == nullptr ? 1 : channels.weight[c];
    const double exact = weight / std::sqrt(var[c] + channels.eps);
    scale[c] = static_cast<C>(exact);
    // Far from 0 a rounded mean is off by more than the output's own rounding: the shift takes the rest.
    const double rest = mean[c] - static_cast<double>(centre[c]);
    shift[c] = static_cast<C>((channels.bias == nullptr ? 0 : channels.bias[c]) - rest * exact);
  }
  for (C* array : {centre, scale, shift}) spread(array, walk, begin, end);
}

}  // namespace

BatchNormPlan batch_norm_plan(const BatchNormProblem& problem) {
  const Walk walk(problem);
  return {walk.items, walk.items_per_channel, problem.channels * walk.pieces(), walk.coefficients,
          walk.rows * walk.row_bits};
}

void batch_norm_moments(const BatchNormProblem& problem, double* moments, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    const Forward<typename decltype(tag)::type> forward(problem);
    double* const squares = moments + problem.channels * forward.walk.pieces();
    for (int64_t item = begin; item < end; ++item) {
      problem.channels_last ? forward.moments_by_columns(item, moments, squares)
                            : forward.moments(item, moments, squares);
    }
  });
}

void batch_norm_statistics(const BatchNormProblem& problem, const double* moments, double* __restrict mean,
                           double* __restrict var, int64_t begin, int64_t end) {
  const Walk walk(problem);
  const double share = 1 / static_cast<double>(problem.batch * problem.pixels);
  const int64_t squares = problem.channels * walk.pieces(), step = walk.moments_of(1, 0);
  for (int64_t c = begin; c < end; ++c) mean[c] = var[c] = 0;
  for (int64_t p = 0; p < walk.pieces(); ++p) {
    const double* __restrict means = moments + walk.moments_of(0, p);
    const auto count = static_cast<double>(walk.count_of(p));
    for (int64_t c = begin; c < end; ++c) mean[c] += means[step * c] * count;
  }
  for (int64_t c = begin; c < end; ++c) mean[c] *= share;
  // The squares within items, and those of the items' distances from the mean of all.
  for (int64_t p = 0; p < walk.pieces(); ++p) {
    const double* __restrict means = moments + walk.moments_of(0, p);
    const auto count = static_cast<double>(walk.count_of(p));
    for (int64_t c = begin; c < end; ++c) {
      const double distance = means[step * c] - mean[c];
      var[c] += means[step * c + squares] + distance * distance * count;
    }
  }
  for (int64_t c = begin; c < end; ++c) var[c] = var[c] < 0 ? 0 : var[c] * share;
}

void batch_norm_coefficients(const BatchNormProblem& problem, const BatchNormChannels& channels, void* coefficients,
                             int64_t begin, int64_t end) {
  const Walk walk(problem);
  problem.dtype == DType::f64 ? write_coefficients(walk, channels, static_cast<double*>(coefficients), begin, end)
                              : write_coefficients(walk, channels, static_cast<float*>(coefficients), begin, end);
}

void fused_batch_norm(const BatchNormProblem& problem, const void* coefficients, void* out, uint8_t* bits,
                      int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Forward<T> forward(problem);
    const Coefficients<Compute<T>> by(coefficients, forward.walk.coefficients);
    forward.apply(by, static_cast<T*>(out), bits, begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
