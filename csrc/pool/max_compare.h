// The gradient of max pooling on the CPU by comparison: pixels compare the offsets of their windows with their own tap.
#pragma once

#include "common/lanes.h"
#include "pool/max_pool2d.h"
#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {
// Of the one file that includes it: a function called in one place is then part of that place.
namespace {

/// Whether channels are vectors, and to compare all windows of a pixel costs less than to send each gradient to one.
bool compares_channels(const PoolShape& shape) {
  constexpr int64_t most_windows = 9;
  return shape.inner >= kPoolLanes<float> &&
         pool_ceil_div(shape.y.kernel, shape.y.stride) * pool_ceil_div(shape.x.kernel, shape.x.stride) <= most_windows;
}

/// Whether each pixel of a plane lies in one window at most, of two columns that are next to each other.
bool compares_halves(const PoolShape& shape) {
  const PoolAxis &y = shape.y, &x = shape.x;
  const bool is_plain = y.padding == 0 && x.padding == 0 && y.dilation == 1 && x.dilation == 1;
  return shape.inner == 1 && is_plain && x.kernel == 2 && x.stride == 2 && y.kernel <= y.stride;
}

/// Where rows stand.
template <class T, class O>
struct MaxGradients {
  const PoolShape& shape;
  const T* grad;
  const O* offsets;
  T* grad_input;

  int64_t window_row(const PoolItem& item, int64_t o) const {
    return (item.outer * shape.y.out + o) * shape.x.out * shape.inner + item.channel;
  }

  T* input_row(const PoolItem& item, int64_t row) const {
    return grad_input + (item.outer * shape.y.in + row) * shape.x.in * shape.inner + item.channel;
  }
};

/// The tap of a window that is some pixel, and where the window stands.
struct MaxTap {
  int64_t place, number;
};

struct MaxTaps {
  const MaxTap *first, *last;

  const MaxTap* begin() const { return first; }
  const MaxTap* end() const { return last; }
};

/// A few vectors of sums: of the machine's size, for of wider ones the compiler compares each value alone.
template <class C, int vectors>
class MaxSums {
 public:
  static constexpr int kLanes = kVectorBytes / sizeof(C), kChannels = vectors * kLanes;

  /// Adds those gradients whose offset is the number.
  void add(const C* grads, const uint8_t* offsets, int64_t number) {
    const auto tap = static_cast<uint8_t>(number);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      Values values;
      memcpy(&values, grads + v * kLanes, sizeof values);
      // A loop, for GCC converts vectors of bytes to such of four times as much value by value.
      Integer wide[kLanes];
      for (int i = 0; i < kLanes; ++i) wide[i] = offsets[v * kLanes + i];
      Integers taps;
      memcpy(&taps, wide, sizeof taps);
      sums_[v] += taps == Integers{} + tap ? values : Values{};
    }
  }

  void store(C* to) const { memcpy(to, sums_, sizeof sums_); }

 private:
  using Integer = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;
  typedef C Values __attribute__((vector_size(kVectorBytes)));
  typedef Integer Integers __attribute__((vector_size(kVectorBytes)));

  Values sums_[vectors] = {};
};

/// Pixels whose channels are vectors. 16-bit images are widened an item at a time.
template <class T>
class ComparedChannels {
 public:
  using C = Compute<T>;

  ComparedChannels(const PoolShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        step_(kIsWidened ? cut.channels : shape.inner),
        rows_(scratch.take<MaxTap>(shape.y.kernel)),
        columns_(scratch.take<MaxTap>(shape.x.in * shape.x.kernel)),
        counts_(scratch.take<int64_t>(shape.x.in)),
        grads_(scratch.take<C>(kIsWidened ? most_windows(cut.rows) * step_ : 0)),
        offsets_(scratch.take<uint8_t>(kIsWidened ? most_windows(cut.rows) * step_ : 0)),
        sums_(scratch.take<C>(kIsWidened ? cut.rows * shape.x.in * step_ : 0)) {}

  /// Once the memory is there.
  void prepare() {
    for (int64_t x = 0; x < shape_.x.in; ++x) {
      counts_[x] = find_taps(shape_.x, x, step_, 1, columns_ + x * shape_.x.kernel);
    }
  }

  void run(const PoolItem& item, const MaxGradients<T, uint8_t>& at) const {
    const int64_t first = PoolWindows(shape_.y, item.row).begin, place = at.window_row(item, first);
    T* const to = at.input_row(item, item.row);
    if constexpr (kIsWidened) {
      const int64_t windows = pool_max(0, PoolWindows(shape_.y, item.end - 1).end - first) * shape_.x.out;
      as_compute(at.grad + place, windows, shape_.inner, item.channels, step_, grads_);
      for (int64_t i = 0; i < windows; ++i) {
        memcpy(offsets_ + i * step_, at.offsets + place + i * shape_.inner, item.channels);
      }
      sum_rows(item, grads_, offsets_, first, sums_);
      pool_store(sums_, (item.end - item.row) * shape_.x.in, shape_.inner, item.channels, step_, to);
    } else {
      sum_rows(item, at.grad + place, at.offsets + place, first, to);
    }
  }

 private:
  static constexpr bool kIsWidened = !std::is_same_v<T, C>;

  int64_t most_windows(int64_t rows) const {
    const int64_t span = (shape_.y.kernel - 1) * shape_.y.dilation + 1;
    return pool_min(shape_.y.out, (rows + span - 2) / shape_.y.stride + 1) * shape_.x.out;
  }

  /// All of pixel `i`, in the order of the windows, which are `step` apart.
  static int64_t find_taps(const PoolAxis& axis, int64_t i, int64_t step, int64_t numbers, MaxTap* found) {
    const PoolWindows windows(axis, i);
    int64_t count = 0;
    for (int64_t o = windows.begin; o < windows.end; ++o) {
      const int64_t beyond = i + axis.padding - o * axis.stride, number = pool_axis_div(beyond, axis.dilation);
      if (number * axis.dilation == beyond) found[count++] = {o * step, number * numbers};
    }
    return count;
  }

  /// The rows of an item, of whose windows row `first` stands at `grads`.
  void sum_rows(const PoolItem& item, const C* grads, const uint8_t* offsets, int64_t first, C* to) const {
    const int64_t row = shape_.x.out * step_;
    for (int64_t y = item.row; y < item.end; ++y) {
      const int64_t count = find_taps(shape_.y, y, row, shape_.x.kernel, rows_);
      for (int64_t i = 0; i < count; ++i) rows_[i].place -= first * row;
      for (int64_t x = 0; x < shape_.x.in; ++x, to += step_) {
        const MaxTap* const columns = columns_ + x * shape_.x.kernel;
        sum_pixel({rows_, rows_ + count}, {columns, columns + counts_[x]}, item.channels, grads, offsets, to);
      }
    }
  }

  void sum_pixel(const MaxTaps& rows, const MaxTaps& columns, int64_t channels, const C* grads, const uint8_t* offsets,
                 C* to) const {
    int64_t done = 0;
    const auto sum_while = [&](auto tag) {
      using Sums = typename decltype(tag)::type;
      for (; done + Sums::kChannels <= channels; done += Sums::kChannels) {
        sum_channels<Sums>(rows, columns, grads + done, offsets + done, to + done);
      }
    };
    sum_while(Tag<MaxSums<C, 4>>{});
    sum_while(Tag<MaxSums<C, 1>>{});
    for (; done < channels; ++done) {
      C sum = 0;
      for (const MaxTap& row : rows) {
        for (const MaxTap& column : columns) {
          const int64_t place = row.place + column.place + done;
          sum += offsets[place] == row.number + column.number ? grads[place] : C(0);
        }
      }
      to[done] = sum;
    }
  }

  template <class Sums>
  static void sum_channels(const MaxTaps& rows, const MaxTaps& columns, const C* grads, const uint8_t* offsets, C* to) {
    Sums sums;
    for (const MaxTap& row : rows) {
      for (const MaxTap& column : columns) {
        const int64_t place = row.place + column.place;
        sums.add(grads + place, offsets + place, row.number + column.number);
      }
    }
    sums.store(to);
  }

  PoolShape shape_;
  int64_t step_;     // from a window to the next, and from a pixel
  MaxTap* rows_;     // of a row of pixels
  MaxTap* columns_;  // by column of the input, as many as counted
  int64_t* counts_;
  C* grads_;
  uint8_t* offsets_;
  C* sums_;
};

/// Planes whose rows are halved.
template <class T>
class ComparedHalves {
 public:
  using C = Compute<T>;
  using O = uint8_t;

  ComparedHalves(const PoolShape& shape, const PoolCut&, PoolScratch& scratch)
      : shape_(shape),
        grads_(scratch.take<C>(std::is_same_v<T, C> ? 0 : shape.x.out)),
        row_(scratch.take<C>(std::is_same_v<T, C> ? 0 : shape.x.in)) {}

  void prepare() {}

  void run(const PoolItem& item, const MaxGradients<T, O>& at) {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    for (int64_t row = item.row; row < item.end; ++row) {
      T* const to = at.input_row(item, row);
      const int64_t o = pool_axis_div(row, y.stride), tap = row - o * y.stride;
      if (o >= y.out || tap >= y.kernel) {
        memset(to, 0, x.in * sizeof(T));
        continue;
      }
      const int64_t place = at.window_row(item, o);
      const auto left = static_cast<O>(tap * x.kernel);
      if constexpr (std::is_same_v<T, C>) {
        spread(at.grad + place, at.offsets + place, left, to);
      } else {
        widen(at.grad + place, grads_, x.out);
        spread(grads_, at.offsets + place, left, row_);
        narrow(row_, to, x.in);
      }
    }
  }

 private:
  /// Each gradient to one of its two columns, if it is this row's.
  void spread(const C* grads, const O* offsets, O left, C* __restrict row) const {
    const auto right = static_cast<O>(left + 1);
    // Added to 0, as everywhere, where -0 becomes 0.
    const int64_t whole = pool_min(shape_.x.out, shape_.x.in / 2);
    for (int64_t q = 0; q < whole; ++q) {
      row[2 * q] = C(0) + (offsets[q] == left ? grads[q] : C(0));
      row[2 * q + 1] = C(0) + (offsets[q] == right ? grads[q] : C(0));
    }
    // A last column: in ceil_mode that of a window cut off, else left over.
    if (2 * whole < shape_.x.in) {
      const bool has_window = whole < shape_.x.out && offsets[whole] == left;
      row[2 * whole] = C(0) + (has_window ? grads[whole] : C(0));
    }
  }

  const PoolShape& shape_;
  C* grads_;
  C* row_;
};

}  // namespace
}  // namespace visionops::VISIONOPS_ISA
