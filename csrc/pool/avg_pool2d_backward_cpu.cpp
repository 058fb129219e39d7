// The gradient of average pooling on the CPU: quotients summed down the windows that hold a row, then along it.
//
// Counted from the left padding, pixel a * stride + t is tap t of window a, tap t + stride of the one before it, and so
// on. With zeros beyond the windows, pixels of the same t are sums of equally many windows, one beside the other.
#include <utility>

#include "pool/avg_rows.h"
#include "pool/turned_planes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const PoolShape& shape) { return {shape.inner, shape.x.in, shape.y.in, 4 * shape.y.kernel}; }

/// sums[i] = 0, or what is there, and values i of some runs `apart` from each other.
template <bool starts, class C, size_t... k>
void add_runs(std::index_sequence<k...>, const C* from, int64_t apart, int64_t count, C* __restrict sums) {
  const C* const runs[] = {from + k * apart...};
  for (int64_t i = 0; i < count; ++i) {
    C sum = starts ? C(0) : sums[i];
    ((sum += runs[k][i]), ...);
    sums[i] = sum;
  }
}

template <class C>
class Backward {
 public:
  Backward(const PoolShape& shape, const PoolDivisor& divisor, PoolScratch& scratch)
      : shape_(shape),
        cut_(cut_of(shape)),
        pitch_(cut_.channels),
        before_(pool_round_up((shape.x.kernel - 1) / shape.x.stride * pitch_, kPoolLanes<C>)),
        count_(pool_round_up(((shape.x.in - 1 + shape.x.padding) / shape.x.stride + 1) * pitch_, kPoolLanes<C>)),
        kept_(pool_min(shape.y.out, (shape.y.kernel - 1) / shape.y.stride + 1)),
        divisors_(shape, divisor, pitch_, pool_round_up(shape.x.out * pitch_, kPoolLanes<C>), scratch),
        places_(scratch.take<Place>(shape.x.in)),
        taps_(scratch.take<C>(by_pixels(shape) ? 0 : pool_min(shape.x.stride, shape.x.kernel) * count_)),
        row_(scratch.take<C>(shape.x.in * pitch_)),
        sums_(scratch.take<C>(before_ + count_)),
        quotients_(scratch.take<C>(kept_ * (before_ + count_))),
        held_(scratch.take<int64_t>(kept_)) {}

  const PoolCut& cut() const { return cut_; }

  void prepare() {
    const PoolAxis& x = shape_.x;
    for (int64_t i = 0; i < x.in; ++i) {
      const int64_t window = pool_axis_div(i + x.padding, x.stride), tap = i + x.padding - window * x.stride;
      places_[i] = {window, tap, windows_of(tap)};
    }
    divisors_.prepare();
    // Beyond the windows, and in channels that an item does not have, there is nothing to spread.
    for (int64_t i = 0; i < before_ + count_; ++i) sums_[i] = 0;
    for (int64_t i = 0; i < kept_ * (before_ + count_); ++i) quotients_[i] = 0;
  }

  template <class T>
  void run(int64_t index, const T* grad, T* grad_input) {
    const PoolItem item = cut_.item(index);
    const int64_t in_row = shape_.x.in * shape_.inner;
    for (int64_t slot = 0; slot < kept_; ++slot) held_[slot] = -1;
    for (int64_t row = item.row; row < item.end; ++row) {
      const C* const sums = sum_down(item, grad, PoolWindows(shape_.y, row));
      T* const to = grad_input + (item.outer * shape_.y.in + row) * in_row + item.channel;
      if constexpr (std::is_same_v<T, C>) {
        spread(sums, shape_.inner, item.channels, to);
      } else {
        spread(sums, pitch_, item.channels, row_);
        pool_store(row_, shape_.x.in, shape_.inner, item.channels, pitch_, to);
      }
    }
  }

 private:
  static bool by_pixels(const PoolShape& shape) { return shape.inner >= kPoolLanes<C>; }

  // Runs that are added in one pass.
  static constexpr int kMostRuns = 4;

  /// A pixel's last window, which tap of it the pixel is, and how many windows hold it.
  struct Place {
    int64_t window, tap, windows;
  };

  int64_t windows_of(int64_t tap) const {
    return tap < shape_.x.kernel ? (shape_.x.kernel - 1 - tap) / shape_.x.stride + 1 : 0;
  }

  /// The sums of the quotients of some rows of windows, window 0 at before_.
  template <class T>
  const C* sum_down(const PoolItem& item, const T* grad, const PoolWindows& windows) {
    for (int64_t o = windows.begin; o < windows.end; ++o) {
      const int64_t slot = o % kept_;
      if (held_[slot] == o) continue;
      C* const quotients = quotients_ + slot * (before_ + count_) + before_;
      load(grad + (item.outer * shape_.y.out + o) * shape_.x.out * shape_.inner + item.channel, item.channels,
           quotients);
      divisors_.divide(quotients, o);
      held_[slot] = o;
    }
    if (windows.end - windows.begin == 1) return quotients_ + windows.begin % kept_ * (before_ + count_);
    for (int64_t i = 0; i < count_; ++i) sums_[before_ + i] = 0;
    for (int64_t o = windows.begin; o < windows.end; ++o) {
      add_row(quotients_ + o % kept_ * (before_ + count_) + before_, count_, sums_ + before_);
    }
    return sums_;
  }

  template <class T>
  void load(const T* from, int64_t channels, C* to) const {
    if (channels == shape_.inner) return load_run(from, shape_.x.out * channels, to);
    for (int64_t q = 0; q < shape_.x.out; ++q) load_run(from + q * shape_.inner, channels, to + q * pitch_);
  }

  template <class T>
  static void load_run(const T* from, int64_t count, C* to) {
    if constexpr (std::is_same_v<T, C>) {
      memcpy(to, from, count * sizeof(C));
    } else {
      widen(from, to, count);
    }
  }

  /// A row of pixels `step` values apart: one by one where channels are vectors, else those of each tap together.
  void spread(const C* sums, int64_t step, int64_t channels, C* to) const {
    const PoolAxis& x = shape_.x;
    if (by_pixels(shape_)) {
      for (int64_t i = 0; i < x.in; ++i) {
        const Place& place = places_[i];
        add_up(sums + before_ + place.window * pitch_, place.windows, channels, to + i * step);
      }
      return;
    }
    for (int64_t t = 0; t < pool_min(x.stride, x.kernel); ++t) {
      add_up(sums + before_, windows_of(t), count_, taps_ + t * count_);
    }
    if (x.stride == 2 && x.kernel > 1 && pitch_ == 1) return interleave(to);
    for (int64_t i = 0; i < x.in; ++i) {
      const Place& place = places_[i];
      const C* const from = taps_ + place.tap * count_ + place.window * pitch_;
      for (int64_t c = 0; c < channels; ++c) to[i * step + c] = place.windows > 0 ? from[c] : C(0);
    }
  }

  /// The sums of `windows` windows up to the last.
  void add_up(const C* last, int64_t windows, int64_t count, C* to) const {
    if (windows == 0) memset(to, 0, count * sizeof(C));
    const C* const from = last - (windows - 1) * pitch_;
    visit_folds<kMostRuns>(windows, [&](auto some, int64_t first) {
      constexpr std::make_index_sequence<decltype(some)::value> each;
      if (first == 0) {
        add_runs<true>(each, from, pitch_, count, to);
      } else {
        add_runs<false>(each, from + first * pitch_, pitch_, count, to);
      }
    });
  }

  /// The taps of stride 2 in turn.
  void interleave(C* row) const {
    const C* const even = taps_ + places_[0].tap * count_ + places_[0].window;
    const C* const odd = taps_ + (1 - places_[0].tap) * count_ + places_[0].window + places_[0].tap;
    for (int64_t q = 0; q < shape_.x.in / 2; ++q) {
      row[2 * q] = even[q];
      row[2 * q + 1] = odd[q];
    }
    if (shape_.x.in % 2 != 0) row[shape_.x.in - 1] = even[shape_.x.in / 2];
  }

  PoolShape shape_;
  PoolCut cut_;
  int64_t pitch_;
  int64_t before_, count_;  // values left of window 0, and from there to the last pixel's last window
  int64_t kept_;            // windows down that a row lies in
  Divisors<C> divisors_;
  Place* places_;
  C* taps_;  // by tap, a value of each of its pixels
  C* row_;
  C* sums_;
  C* quotients_;
  int64_t* held_;
};

/// Of small planes, an item being a group of them.
template <class C>
class TurnedBackward {
 public:
  TurnedBackward(const PoolShape& shape, const PoolDivisor& divisor, PoolScratch& scratch)
      : planes_(shape.outer, shape.y.out * shape.x.out, shape.y.in * shape.x.in, scratch),
        pass_(turned(shape), divisor, scratch) {}

  PoolWork work(const PoolScratch& scratch) const { return planes_.work(scratch); }

  template <class T>
  void run(const T* grad, T* grad_input, int64_t begin, int64_t end) {
    pass_.prepare();
    for (int64_t group = begin; group < end; ++group) {
      planes_.run(group, grad, grad_input, [&](const C* from, C* to) {
        for (int64_t item = 0; item < pass_.cut().items(1); ++item) pass_.run(item, from, to);
      });
    }
  }

 private:
  TurnedPlanes<C> planes_;
  Backward<C> pass_;
};

}  // namespace

PoolWork avg_pool2d_backward_work(const PoolShape& shape) {
  if (!turns_planes(shape)) return avg_work_of<Backward>(shape, shape.x.in);
  PoolWork work{};
  visit_floating(shape.dtype, [&](auto tag) {
    PoolScratch scratch(nullptr);
    const TurnedBackward<Compute<typename decltype(tag)::type>> planes(shape, {}, scratch);
    work = planes.work(scratch);
  });
  return work;
}

void avg_pool2d_backward(const PoolShape& shape, const PoolDivisor& divisor, const void* grad, void* grad_input,
                         void* scratch, int64_t begin, int64_t end) {
  if (!turns_planes(shape)) return avg_run_items<Backward>(shape, divisor, grad, grad_input, scratch, begin, end);
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    PoolScratch parts(scratch);
    TurnedBackward<Compute<T>> planes(shape, divisor, parts);
    planes.run(static_cast<const T*>(grad), static_cast<T*>(grad_input), begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
