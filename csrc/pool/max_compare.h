// The gradient of max pooling on the CPU by comparison: pixels compare the offsets of their windows with their own tap.
#pragma once

#include <utility>

#include "pool/max_pool2d.h"
#include "pool/pool_windows.h"

namespace visionops::VISIONOPS_ISA {
// Of the one file that includes it: a function called in one place is then part of that place.
namespace {

// From so many taps on a comparison for each costs more than to go to one.
constexpr int64_t kManyMaxTaps = 16;

bool compares_channels(const PoolShape& shape) {
  return shape.inner >= kPoolLanes<float> && shape.y.kernel * shape.x.kernel < kManyMaxTaps;
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

/// sums[i] = the sum of those of gradients k in order, and before them, unless it starts, of itself, whose offset is
/// number k.
template <bool starts, class C, class O, size_t... k>
void collect_max(std::index_sequence<k...>, const C* const* from, const O* const* from_offsets, const O* from_numbers,
                 int64_t channels, C* __restrict sums) {
  const C* const grads[] = {from[k]...};
  const O* const offsets[] = {from_offsets[k]...};
  const O numbers[] = {from_numbers[k]...};
  for (int64_t i = 0; i < channels; ++i) {
    C sum = starts ? C(0) : sums[i];
    ((sum += offsets[k][i] == numbers[k] ? grads[k][i] : C(0)), ...);
    sums[i] = sum;
  }
}

/// Pixels whose channels are vectors: each is summed where it stands.
template <class T, class O>
class ComparedChannels {
 public:
  using C = Compute<T>;

  ComparedChannels(const PoolShape& shape, const PoolCut&, PoolScratch& scratch)
      : shape_(shape),
        columns_(scratch.take<Tap>(shape.x.in * shape.x.kernel)),
        counts_(scratch.take<int64_t>(shape.x.in)) {}

  /// Once the memory is there.
  void prepare() {
    for (int64_t x = 0; x < shape_.x.in; ++x) counts_[x] = find_taps(shape_.x, x, columns_ + x * shape_.x.kernel);
  }

  void run(const PoolItem& item, const MaxGradients<T, O>& at) {
    for (int64_t y = item.row; y < item.end; ++y) {
      Tap rows[kManyMaxTaps];
      const int64_t row_count = find_taps(shape_.y, y, rows);
      T* const to = at.input_row(item, y);
      for (int64_t x = 0; x < shape_.x.in; ++x) {
        const Tap* const columns = columns_ + x * shape_.x.kernel;
        int64_t count = 0;
        for (int64_t r = 0; r < row_count; ++r) {
          for (int64_t c = 0; c < counts_[x]; ++c, ++count) {
            const int64_t place = at.window_row(item, rows[r].window) + columns[c].window * shape_.inner;
            grads_[count] = at.grad + place;
            offsets_[count] = at.offsets + place;
            numbers_[count] = static_cast<O>(rows[r].number * shape_.x.kernel + columns[c].number);
          }
        }
        for (int64_t begin = 0; begin < item.channels; begin += kFoldedChannels) {
          add(count, begin, pool_min(kFoldedChannels, item.channels - begin), to + x * shape_.inner + begin);
        }
      }
    }
  }

 private:
  // Windows that are read in one pass.
  static constexpr int kMostWindows = 4;

  /// The tap of a window that is some pixel.
  struct Tap {
    int64_t window, number;
  };

  /// All of pixel `i`, in the order of the windows.
  static int64_t find_taps(const PoolAxis& axis, int64_t i, Tap* found) {
    const PoolWindows windows(axis, i);
    int64_t count = 0;
    for (int64_t o = windows.begin; o < windows.end; ++o) {
      const int64_t beyond = i + axis.padding - o * axis.stride, number = pool_axis_div(beyond, axis.dilation);
      if (number * axis.dilation == beyond) found[count++] = {o, number};
    }
    return count;
  }

  void add(int64_t windows, int64_t begin, int64_t channels, T* to) {
    C* sums;
    if constexpr (std::is_same_v<T, C>) {
      sums = to;
    } else {
      sums = sums_;
    }
    if (windows == 0) memset(sums, 0, channels * sizeof(C));
    visit_folds<kMostWindows>(windows, [&](auto some, int64_t first) {
      constexpr int K = decltype(some)::value;
      const C* grads[K];
      const O* offsets[K];
      for (int k = 0; k < K; ++k) {
        offsets[k] = offsets_[first + k] + begin;
        if constexpr (std::is_same_v<T, C>) {
          grads[k] = grads_[first + k] + begin;
        } else {
          widen(grads_[first + k] + begin, wide_[k], channels);
          grads[k] = wide_[k];
        }
      }
      constexpr std::make_index_sequence<K> each;
      if (first == 0) {
        collect_max<true>(each, grads, offsets, numbers_, channels, sums);
      } else {
        collect_max<false>(each, grads, offsets, numbers_ + first, channels, sums);
      }
    });
    if constexpr (!std::is_same_v<T, C>) narrow(sums, to, channels);
  }

  static constexpr bool kIsNarrow = !std::is_same_v<T, C>;

  PoolShape shape_;
  Tap* columns_;  // by column of the input, as many as counted
  int64_t* counts_;
  // The windows of a pixel.
  const T* grads_[kManyMaxTaps];
  const O* offsets_[kManyMaxTaps];
  O numbers_[kManyMaxTaps];
  alignas(64) C wide_[kIsNarrow ? kMostWindows : 1][kIsNarrow ? kFoldedChannels : 1];
  alignas(64) C sums_[kIsNarrow ? kFoldedChannels : 1];
};

/// Planes whose rows are halved.
template <class T, class O>
class ComparedHalves {
 public:
  using C = Compute<T>;

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
