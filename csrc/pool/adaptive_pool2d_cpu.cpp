// Averages and maxima of bins on the CPU: down the rows of a bin with vectors over whole rows, then along them.
#include "pool/adaptive_pool2d.h"

#include "pool/max_fold.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const AdaptiveShape& shape) { return {shape.inner, shape.x.in, shape.y.out, 1}; }

/// The sum of values, in an order that no vector's length changes.
template <class T>
Compute<T> sum_of(const T* values, int64_t count) {
  using C = Compute<T>;
  constexpr int64_t lanes = kPoolLanes<C>;
  typedef C Lanes __attribute__((vector_size(64)));
  Lanes sums = {};
  alignas(64) C wide[lanes];
  const int64_t whole = count / lanes * lanes;
  for (int64_t i = 0; i < whole; i += lanes) {
    Lanes some;
    if constexpr (std::is_same_v<T, C>) {
      memcpy(&some, values + i, sizeof some);
    } else {
      widen(values + i, wide, lanes);
      memcpy(&some, wide, sizeof some);
    }
    sums += some;
  }
  memcpy(wide, &sums, sizeof sums);
  // One after the other: the sums of several planes overlap in time.
  C sum = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) sum += wide[lane];
  for (int64_t i = whole; i < count; ++i) sum += to_compute(values[i]);
  return sum;
}

template <class T>
void average_planes(const AdaptiveShape& shape, const T* input, T* output, int64_t begin, int64_t end) {
  const int64_t pixels = shape.y.in * shape.x.in;
  for (int64_t plane = begin; plane < end; ++plane) {
    output[plane] = from_compute<T>(sum_of(input + plane * pixels, pixels) / static_cast<Compute<T>>(pixels));
  }
}

/// The averages of images of type T.
template <class T>
class Averages {
 public:
  using C = Compute<T>;

  Averages(const AdaptiveShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        wide_(scratch.take<C>(shape.x.in * cut.channels)),
        columns_(scratch.take<C>(shape.x.in * cut.channels)),
        sums_(scratch.take<C>(shape.x.out * cut.channels)) {}

  void run(const PoolItem& item, const T* input, T* output) {
    const int64_t in_row = shape_.x.in * shape_.inner, count = shape_.x.in * item.channels;
    for (int64_t p = item.row; p < item.end; ++p) {
      const AdaptiveBin rows(shape_.y, p);
      C* const __restrict columns = columns_;
      for (int64_t y = rows.begin; y < rows.end; ++y) {
        const T* const from = input + (item.outer * shape_.y.in + y) * in_row + item.channel;
        const C* const __restrict row = dense_row(from, shape_.x.in, shape_.inner, item.channels, wide_);
        if (y == rows.begin) {
          memcpy(columns, row, count * sizeof(C));
        } else {
          for (int64_t i = 0; i < count; ++i) columns[i] += row[i];
        }
      }
      for (int64_t q = 0; q < shape_.x.out; ++q) average(q, rows.end - rows.begin, item.channels);
      const int64_t place = (item.outer * shape_.y.out + p) * shape_.x.out * shape_.inner + item.channel;
      pool_store(sums_, shape_.x.out, shape_.inner, item.channels, item.channels, output + place);
    }
  }

 private:
  void average(int64_t q, int64_t rows, int64_t channels) {
    const AdaptiveBin bin(shape_.x, q);
    C* const __restrict sums = sums_ + q * channels;
    for (int64_t i = 0; i < channels; ++i) sums[i] = 0;
    for (int64_t x = bin.begin; x < bin.end; ++x) {
      const C* const __restrict column = columns_ + x * channels;
      for (int64_t i = 0; i < channels; ++i) sums[i] += column[i];
    }
    const auto count = static_cast<C>(rows * (bin.end - bin.begin));
    for (int64_t i = 0; i < channels; ++i) sums[i] /= count;
  }

  const AdaptiveShape& shape_;
  C* wide_;
  C* columns_;
  C* sums_;
};

/// The maxima of images of type T.
template <class T>
class Maxima {
 public:
  using C = Compute<T>;
  using I = TapNumber<C>;

  Maxima(const AdaptiveShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        wide_(scratch.take<C>(shape.x.in * cut.channels)),
        columns_(scratch.take<C>(shape.x.in * cut.channels)),
        rows_(scratch.take<I>(shape.x.in * cut.channels)),
        best_(scratch.take<C>(shape.x.out * cut.channels)),
        best_rows_(scratch.take<I>(cut.channels)),
        best_columns_(scratch.take<I>(cut.channels)),
        indices_(scratch.take<int64_t>(shape.x.out * cut.channels)) {}

  void run(const PoolItem& item, const T* input, T* output, int64_t* indices) {
    const int64_t in_row = shape_.x.in * shape_.inner, count = shape_.x.in * item.channels;
    for (int64_t p = item.row; p < item.end; ++p) {
      const AdaptiveBin bin(shape_.y, p);
      for (int64_t y = bin.begin; y < bin.end; ++y) {
        const T* const from = input + (item.outer * shape_.y.in + y) * in_row + item.channel;
        const C* const row = dense_row(from, shape_.x.in, shape_.inner, item.channels, wide_);
        const I number = static_cast<I>(y);
        if (y == bin.begin) {
          memcpy(columns_, row, count * sizeof(C));
          for (int64_t i = 0; i < count; ++i) rows_[i] = number;
        } else {
          fold_max<true, false>(std::index_sequence<0>{}, &row, &number, count, columns_, rows_);
        }
      }
      for (int64_t q = 0; q < shape_.x.out; ++q) find_best(q, item.channels);
      const int64_t place = (item.outer * shape_.y.out + p) * shape_.x.out * shape_.inner + item.channel;
      pool_store(best_, shape_.x.out, shape_.inner, item.channels, item.channels, output + place);
      pool_store(indices_, shape_.x.out, shape_.inner, item.channels, item.channels, indices + place);
    }
  }

 private:
  /// The columns of a bin each have their best; of equal ones the upper, then the left counts, of NaNs the other.
  void find_best(int64_t q, int64_t channels) {
    const AdaptiveBin bin(shape_.x, q);
    C* const __restrict best = best_ + q * channels;
    I* const __restrict best_rows = best_rows_;
    I* const __restrict best_columns = best_columns_;
    const C* const __restrict first = columns_ + bin.begin * channels;
    const I* const __restrict first_rows = rows_ + bin.begin * channels;
    for (int64_t i = 0; i < channels; ++i) best[i] = first[i];
    for (int64_t i = 0; i < channels; ++i) best_rows[i] = first_rows[i];
    for (int64_t i = 0; i < channels; ++i) best_columns[i] = static_cast<I>(bin.begin);
    for (int64_t x = bin.begin + 1; x < bin.end; ++x) {
      const C* const __restrict values = columns_ + x * channels;
      const I* const __restrict rows = rows_ + x * channels;
      const I number = static_cast<I>(x);
      for (int64_t i = 0; i < channels; ++i) {
        const C value = values[i], most = best[i];
        const I row = rows[i], most_row = best_rows[i];
        const bool above = row < most_row;
        const bool better = (value > most) | ((value == most) & above) | ((value != value) & ((most == most) | !above));
        best[i] = better ? value : most;
        best_rows[i] = better ? row : most_row;
        best_columns[i] = better ? number : best_columns[i];
      }
    }
    for (int64_t i = 0; i < channels; ++i) {
      indices_[q * channels + i] = static_cast<int64_t>(best_rows[i]) * shape_.x.in + best_columns[i];
    }
  }

  const AdaptiveShape& shape_;
  C* wide_;
  C* columns_;
  I* rows_;
  C* best_;
  I* best_rows_;
  I* best_columns_;
  int64_t* indices_;
};

}  // namespace

PoolWork adaptive_pool2d_work(const AdaptiveShape& shape) {
  const PoolCut cut = cut_of(shape);
  PoolScratch scratch(nullptr);
  visit_floating(shape.dtype, [&](auto tag) { Maxima<typename decltype(tag)::type>(shape, cut, scratch); });
  const int64_t rows = cut.rows * pool_ceil_div(shape.y.in, shape.y.out);
  return {cut.items(shape.outer), rows * shape.x.in * cut.channels, scratch.bytes()};
}

void adaptive_avg_pool2d(const AdaptiveShape& shape, const void* input, void* output, void* scratch, int64_t begin,
                         int64_t end) {
  const PoolCut cut = cut_of(shape);
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (is_plane(shape)) {
      return average_planes(shape, static_cast<const T*>(input), static_cast<T*>(output), begin, end);
    }
    PoolScratch parts(scratch);
    Averages<T> averages(shape, cut, parts);
    for (int64_t index = begin; index < end; ++index) {
      averages.run(cut.item(index), static_cast<const T*>(input), static_cast<T*>(output));
    }
  });
}

void adaptive_max_pool2d(const AdaptiveShape& shape, const void* input, void* output, int64_t* indices, void* scratch,
                         int64_t begin, int64_t end) {
  const PoolCut cut = cut_of(shape);
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    PoolScratch parts(scratch);
    Maxima<T> maxima(shape, cut, parts);
    for (int64_t index = begin; index < end; ++index) {
      maxima.run(cut.item(index), static_cast<const T*>(input), static_cast<T*>(output), indices);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
