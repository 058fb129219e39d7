// Averages and maxima of bins on the CPU: bin by bin where channels are vectors, or small planes are turned to be; else
// down the rows of a bin with vectors over whole rows, then along them.
#include "pool/turned_planes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const AdaptiveShape& shape) { return {shape.inner, shape.x.in, shape.y.out, 1}; }

// Pixels are numbered in 32 bits there.
bool by_bins(const AdaptiveShape& shape) {
  return shape.inner >= kPoolLanes<float> && shape.y.in * shape.x.in < int64_t{1} << 31;
}

/// How many pixels a bin has: what its sum is divided by.
struct BinPixels {
  const AdaptiveShape& shape;

  int64_t operator()(int64_t p, int64_t q) const { return pixels_of(shape.y, p).count * pixels_of(shape.x, q).count; }
};

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
      widen_in_lanes(values + i, lanes, wide);
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

/// The sums of a bin's rows, and of what is in them.
template <class C>
class RowSums {
 public:
  RowSums(const AdaptiveShape& shape, int64_t channels, PoolScratch& scratch)
      : shape_(shape),
        columns_(scratch.take<C>(shape.x.in * channels)),
        sums_(scratch.take<C>(shape.x.out * channels)) {}

  void start(const C* row, int64_t, int64_t count) { memcpy(columns_, row, count * sizeof(C)); }

  void add(const C* __restrict row, int64_t, int64_t count) {
    C* const __restrict columns = columns_;
    for (int64_t i = 0; i < count; ++i) columns[i] += row[i];
  }

  /// Channels are few here, most often one.
  void finish(int64_t q, int64_t rows, int64_t channels) {
    const AdaptiveBin bin(shape_.x, q);
    const auto count = static_cast<C>(rows * (bin.end - bin.begin));
    for (int64_t i = 0; i < channels; ++i) {
      C sum = 0;
      for (int64_t x = bin.begin; x < bin.end; ++x) sum += columns_[x * channels + i];
      sums_[q * channels + i] = sum / count;
    }
  }

  template <class T>
  void store(int64_t place, int64_t channels, T* output) const {
    pool_store(sums_, shape_.x.out, shape_.inner, channels, channels, output + place);
  }

 private:
  const AdaptiveShape& shape_;
  C* columns_;
  C* sums_;
};

/// The maxima of a bin's rows, and of those.
template <class C>
class RowMaxima {
 public:
  using I = TapNumber<C>;

  RowMaxima(const AdaptiveShape& shape, int64_t channels, PoolScratch& scratch)
      : shape_(shape),
        columns_(scratch.take<C>(shape.x.in * channels)),
        rows_(scratch.take<I>(shape.x.in * channels)),
        best_(scratch.take<C>(shape.x.out * channels)),
        indices_(scratch.take<int64_t>(shape.x.out * channels)) {}

  void start(const C* row, int64_t y, int64_t count) { fold<true>(row, y, count); }

  void add(const C* row, int64_t y, int64_t count) { fold<false>(row, y, count); }

  /// The columns of a bin each have their best; of equal ones the upper, then the left counts, of NaNs the other.
  void finish(int64_t q, int64_t, int64_t channels) {
    const AdaptiveBin bin(shape_.x, q);
    for (int64_t i = 0; i < channels; ++i) {
      int64_t column = bin.begin;
      C most = columns_[column * channels + i];
      I most_row = rows_[column * channels + i];
      for (int64_t x = bin.begin + 1; x < bin.end; ++x) {
        const C value = columns_[x * channels + i];
        const I row = rows_[x * channels + i];
        const bool above = row < most_row;
        if ((value > most) | ((value == most) & above) | ((value != value) & ((most == most) | !above))) {
          most = value;
          most_row = row;
          column = x;
        }
      }
      best_[q * channels + i] = most;
      indices_[q * channels + i] = static_cast<int64_t>(most_row) * shape_.x.in + column;
    }
  }

  template <class T>
  void store(int64_t place, int64_t channels, T* output, int64_t* indices) const {
    pool_store(best_, shape_.x.out, shape_.inner, channels, channels, output + place);
    pool_store(indices_, shape_.x.out, shape_.inner, channels, channels, indices + place);
  }

 private:
  template <bool starts>
  void fold(const C* row, int64_t y, int64_t count) {
    const I number = static_cast<I>(y);
    constexpr const I* const* no_columns = nullptr;
    fold_max<true, starts, false>(std::index_sequence<0>{}, &row, &number, no_columns, count, columns_, rows_);
  }

  const AdaptiveShape& shape_;
  C* columns_;
  I* rows_;
  C* best_;
  int64_t* indices_;
};

/// Items by rows: `Rows` is RowSums or RowMaxima, `outputs` what its store takes.
template <template <class> class Rows, class T, class... Outputs>
void run_rows(const AdaptiveShape& shape, const T* input, void* memory, int64_t begin, int64_t end,
              Outputs*... outputs) {
  using C = Compute<T>;
  const PoolCut cut = cut_of(shape);
  PoolScratch scratch(memory);
  C* const wide = scratch.take<C>(shape.x.in * cut.channels);
  Rows<C> rows(shape, cut.channels, scratch);
  for (int64_t index = begin; index < end; ++index) {
    const PoolItem item = cut.item(index);
    for (int64_t p = item.row; p < item.end; ++p) {
      const AdaptiveBin bin(shape.y, p);
      for (int64_t y = bin.begin; y < bin.end; ++y) {
        const T* const from = input + (item.outer * shape.y.in + y) * shape.x.in * shape.inner + item.channel;
        const C* const row = dense_row(from, shape.x.in, shape.inner, item.channels, wide);
        const int64_t count = shape.x.in * item.channels;
        y == bin.begin ? rows.start(row, y, count) : rows.add(row, y, count);
      }
      for (int64_t q = 0; q < shape.x.out; ++q) rows.finish(q, bin.end - bin.begin, item.channels);
      rows.store((item.outer * shape.y.out + p) * shape.x.out * shape.inner + item.channel, item.channels, outputs...);
    }
  }
}

}  // namespace

PoolWork adaptive_pool2d_work(const AdaptiveShape& shape) {
  const PoolCut cut = cut_of(shape);
  const int64_t rows = cut.rows * pool_ceil_div(shape.y.in, shape.y.out);
  PoolWork work = {cut.items(shape.outer), rows * shape.x.in * cut.channels, 0};
  visit_floating(shape.dtype, [&](auto tag) {
    using C = Compute<typename decltype(tag)::type>;
    PoolScratch scratch(nullptr);
    if (turns_planes(shape)) {
      const TurnedFolds<C, AdaptiveShape> folds(shape, scratch);
      work = folds.work(scratch);
    } else {
      scratch.take<C>(shape.x.in * cut.channels);
      RowMaxima<C>(shape, cut.channels, scratch);
      work.scratch_bytes = scratch.bytes();
    }
  });
  return work;
}

void adaptive_avg_pool2d(const AdaptiveShape& shape, const void* input, void* output, void* scratch, int64_t begin,
                         int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(input);
    auto* const to = static_cast<T*>(output);
    if (is_plane(shape)) {
      const int64_t planes = turns_planes(shape) ? kTurned : 1;
      return average_planes(shape, from, to, begin * planes, pool_min(shape.outer, end * planes));
    }
    if (turns_planes(shape)) {
      PoolScratch parts(scratch);
      return TurnedFolds<Compute<T>, AdaptiveShape>(shape, parts).average(BinPixels{shape}, from, to, begin, end);
    }
    if (!by_bins(shape)) return run_rows<RowSums>(shape, from, scratch, begin, end, to);
    walk_windows(shape, cut_of(shape), from, average_fold(BinPixels{shape}, to), begin, end);
  });
}

void adaptive_max_pool2d(const AdaptiveShape& shape, const void* input, void* output, int64_t* indices, void* scratch,
                         int64_t begin, int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(input);
    auto* const to = static_cast<T*>(output);
    if (turns_planes(shape)) {
      PoolScratch parts(scratch);
      return TurnedFolds<Compute<T>, AdaptiveShape>(shape, parts).maximum(from, to, indices, begin, end);
    }
    if (!by_bins(shape)) return run_rows<RowMaxima>(shape, from, scratch, begin, end, to, indices);
    walk_windows(shape, cut_of(shape), from, MaximumFold<T, int64_t>(to, indices), begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
