// The average of each window on the CPU: along each row once, then down the rows of a window; of few taps all at once;
// or window by window.
#include "pool/avg_rows.h"
#include "pool/dealt_windows.h"
#include "pool/turned_planes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const PoolShape& shape) {
  return {shape.inner, shape.x.out, shape.y.out, pool_ceil_div(4 * shape.y.kernel, shape.y.stride)};
}

/// By rows.
template <class C>
class Forward {
 public:
  Forward(const PoolShape& shape, const PoolDivisor& divisor, PoolScratch& scratch)
      : shape_(shape),
        cut_(cut_of(shape)),
        pitch_(cut_.channels),
        count_(pool_round_up(shape.x.out * pitch_, kPoolLanes<C>)),
        kept_(pool_min(shape.y.in, pool_max(1, shape.y.kernel - shape.y.stride))),
        divisors_(shape, divisor, pitch_, count_, scratch),
        phases_(shape.x, pitch_, scratch),
        wide_(scratch.take<C>(shape.x.in * pitch_)),
        sums_(scratch.take<C>(count_)),
        rows_(scratch.take<C>(kept_ * count_)),
        held_(scratch.take<int64_t>(kept_)) {}

  const PoolCut& cut() const { return cut_; }

  void prepare() {
    phases_.prepare(0);
    divisors_.prepare();
  }

  template <class T>
  void run(int64_t index, const T* input, T* output) {
    const PoolItem item = cut_.item(index);
    const PoolAxis& y = shape_.y;
    const int64_t in_row = shape_.x.in * shape_.inner, out_row = shape_.x.out * shape_.inner;
    for (int64_t slot = 0; slot < kept_; ++slot) held_[slot] = -1;
    for (int64_t o = item.row; o < item.end; ++o) {
      const PoolTaps taps(y, o);
      for (int64_t i = 0; i < count_; ++i) sums_[i] = 0;
      for (int64_t t = taps.begin; t < taps.end; ++t) {
        const int64_t row = o * y.stride - y.padding + t, slot = row % kept_;
        if (held_[slot] != row) {
          const T* const from = input + (item.outer * y.in + row) * in_row + item.channel;
          make_row(as_compute(from, shape_.x.in, shape_.inner, item.channels, pitch_, wide_), item.channels, slot);
          held_[slot] = row;
        }
        add_row(rows_ + slot * count_, count_, sums_);
      }
      divisors_.divide(sums_, o);
      const int64_t place = (item.outer * y.out + o) * out_row + item.channel;
      pool_store(sums_, shape_.x.out, shape_.inner, item.channels, pitch_, output + place);
    }
  }

 private:
  void make_row(const PoolPixels<C>& pixels, int64_t channels, int64_t slot) {
    phases_.load(pixels.row, pixels.step, channels);
    for (int64_t begin = 0; begin < count_; begin += kPoolBlock) {
      const int64_t count = pool_min(kPoolBlock, count_ - begin);
      C* const sums = rows_ + slot * count_ + begin;
      memcpy(sums, phases_.tap(0) + begin, count * sizeof(C));
      for (int64_t t = 1; t < shape_.x.kernel; ++t) add_row(phases_.tap(t) + begin, count, sums);
    }
  }

  PoolShape shape_;
  PoolCut cut_;
  int64_t pitch_, count_;
  int64_t kept_;  // rows that the next window may share
  Divisors<C> divisors_;
  PoolPhases<C> phases_;
  C* wide_;
  C* sums_;
  C* rows_;
  int64_t* held_;
};

/// The averages of some windows, whose divisors are `down` times those across. Not inline, for what calls it is
/// compiled for each type of image.
template <class C>
[[gnu::noinline]] void average_dealt(const DealtTaps<C>& taps, C down, const C* across, int64_t count, C* averages) {
  for_vectors<C>(count, [&](auto vectors, int64_t begin, int last) {
    constexpr int n = decltype(vectors)::value;
    Lanes<C> sums[n] = {};
    for (int64_t tap = 0; tap < taps.count; ++tap) {
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) sums[v] += load(taps.rows[tap] + begin + v * kLanes<C>);
    }
    for (int v = 0; v < n; ++v) {
      const int64_t i = begin + v * kLanes<C>;
      store(averages + i, sums[v] / (down * load(across + i)), v == n - 1 ? last : kLanes<C>);
    }
  });
}

/// By rows of few taps.
template <class C>
class ForwardOfDealt {
 public:
  ForwardOfDealt(const PoolShape& shape, const PoolDivisor& divisor, PoolScratch& scratch)
      : cut_(cut_of(shape)),
        count_(shape.x.out * shape.inner),
        divisors_(shape, divisor, shape.inner, pool_round_up(count_, kPoolLanes<C>), scratch),
        windows_(shape, scratch),
        averages_(scratch.take<C>(count_)) {}

  const PoolCut& cut() const { return cut_; }

  void prepare() {
    windows_.prepare(0);
    divisors_.prepare();
  }

  template <class T>
  void run(int64_t index, const T* input, T* output) {
    windows_.run(cut_.item(index), input, [&](int64_t o, int64_t place, const DealtTaps<C>& taps) {
      C* averages = averages_;
      if constexpr (std::is_same_v<T, C>) averages = output + place;
      average_dealt(taps, divisors_.down(o), divisors_.across(), count_, averages);
      if constexpr (!std::is_same_v<T, C>) narrow(averages, output + place, count_);
    });
  }

 private:
  PoolCut cut_;
  int64_t count_;
  Divisors<C> divisors_;
  DealtWindows<C> windows_;
  C* averages_;  // of 16-bit types
};

/// What the sum of a window is divided by. No lambda, whose type would be another for each type of image, and with it
/// all that folds float.
struct Counted {
  const PoolShape& shape;
  const PoolDivisor& divisor;

  int64_t operator()(int64_t p, int64_t q) const { return pool_divisor(shape, divisor, p, q); }
};

bool by_turned(const PoolShape& shape) { return turns_planes(shape) && pool_has_few_taps(shape); }

}  // namespace

PoolWork avg_pool2d_work(const PoolShape& shape) {
  if (!by_turned(shape)) {
    const int64_t pixels_in_row = pool_max(shape.x.out, shape.y.stride * shape.x.in);
    return pool_by_dealt(shape) ? avg_work_of<ForwardOfDealt>(shape, pixels_in_row)
                                : avg_work_of<Forward>(shape, pixels_in_row);
  }
  PoolWork work{};
  visit_floating(shape.dtype, [&](auto tag) {
    PoolScratch scratch(nullptr);
    const TurnedFolds<Compute<typename decltype(tag)::type>, PoolShape> folds(shape, scratch);
    work = folds.work(scratch);
  });
  return work;
}

void avg_pool2d(const PoolShape& shape, const PoolDivisor& divisor, const void* input, void* output, void* scratch,
                int64_t begin, int64_t end) {
  if (!by_turned(shape) && !pool_by_windows(shape)) {
    return pool_by_dealt(shape) ? avg_run_items<ForwardOfDealt>(shape, divisor, input, output, scratch, begin, end)
                                : avg_run_items<Forward>(shape, divisor, input, output, scratch, begin, end);
  }
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(input);
    auto* const to = static_cast<T*>(output);
    const Counted counted = {shape, divisor};
    if (pool_by_windows(shape)) return walk_windows(shape, cut_of(shape), from, average_fold(counted, to), begin, end);
    PoolScratch parts(scratch);
    TurnedFolds<Compute<T>, PoolShape>(shape, parts).average(counted, from, to, begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
