// The average of each window on the CPU, and its gradient: along each row once, then down the rows of a window.
#include "pool/avg_pool2d.h"

#include <utility>

#include "pool/pool_windows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut forward_cut(const PoolShape& shape) {
  return {shape.inner, shape.x.out, shape.y.out, pool_ceil_div(4 * shape.y.kernel, shape.y.stride)};
}

PoolCut backward_cut(const PoolShape& shape) { return {shape.inner, shape.x.in, shape.y.in, 4 * shape.y.kernel}; }

template <class C>
void add_row(const C* __restrict row, int64_t count, C* __restrict sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += row[i];
}

/// The divisors of the windows of a row: the taps counted across, times those down.
template <class C>
class Divisors {
 public:
  Divisors(const PoolShape& shape, const PoolDivisor& divisor, int64_t pitch, int64_t count, PoolScratch& scratch)
      : shape_(shape), divisor_(divisor), pitch_(pitch), count_(count), across_(scratch.take<C>(count)) {}

  void prepare() {
    for (int64_t i = 0; i < count_; ++i) across_[i] = 1;
    for (int64_t o = 0; o < shape_.x.out; ++o) {
      const int64_t across = divisor_.fixed != 0 ? divisor_.fixed : pool_counted(shape_.x, divisor_, o);
      for (int64_t i = 0; i < pitch_; ++i) across_[o * pitch_ + i] = static_cast<C>(across);
    }
  }

  /// Divides a row of values that belongs to window `o` down.
  void divide(C* __restrict values, int64_t o) const {
    const auto down = static_cast<C>(divisor_.fixed != 0 ? 1 : pool_counted(shape_.y, divisor_, o));
    const C* const __restrict across = across_;
    for (int64_t i = 0; i < count_; ++i) values[i] /= down * across[i];
  }

 private:
  PoolShape shape_;
  PoolDivisor divisor_;
  int64_t pitch_, count_;
  C* across_;
};

/// The forward pass by rows, over images of type T.
template <class T>
class Forward {
 public:
  using C = Compute<T>;

  Forward(const PoolShape& shape, const PoolDivisor& divisor, PoolScratch& scratch)
      : shape_(shape),
        cut_(forward_cut(shape)),
        pitch_(cut_.channels),
        count_(pool_round_up(shape.x.out * pitch_, kPoolLanes<C>)),
        kept_(pool_max(1, shape.y.kernel - shape.y.stride)),
        divisors_(shape, divisor, pitch_, count_, scratch),
        phases_(shape.x, pitch_, false, scratch),
        wide_(scratch.take<C>(std::is_same_v<T, C> ? 0 : shape.x.in * pitch_)),
        sums_(scratch.take<C>(count_)),
        rows_(scratch.take<C>(kept_ * count_)),
        held_(scratch.take<int64_t>(kept_)) {}

  const PoolCut& cut() const { return cut_; }

  void prepare() {
    phases_.prepare(0);
    divisors_.prepare();
  }

  void run(int64_t index, const void* input, void* output) {
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
          const int64_t place = (item.outer * y.in + row) * in_row + item.channel;
          make_row(static_cast<const T*>(input) + place, item.channels, slot);
          held_[slot] = row;
        }
        add_row(rows_ + slot * count_, count_, sums_);
      }
      divisors_.divide(sums_, o);
      const int64_t place = (item.outer * y.out + o) * out_row + item.channel;
      pool_store(sums_, shape_.x.out, shape_.inner, item.channels, pitch_, static_cast<T*>(output) + place);
    }
  }

 private:
  void make_row(const T* from, int64_t channels, int64_t slot) {
    const PoolPixels<C> pixels = as_compute(from, shape_.x.in, shape_.inner, channels, pitch_, wide_);
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

/// The average of some channels of a window, for PoolWindowWalk.
template <class T>
class WindowFold {
 public:
  using C = Compute<T>;

  WindowFold(const PoolShape& shape, const PoolDivisor& divisor, T* output)
      : shape_(shape), divisor_(divisor), output_(output) {}

  void set_empty(int64_t channels) {
    for (int64_t i = 0; i < channels; ++i) sums_[i] = 0;
  }

  template <bool starts, int K>
  void add(std::integral_constant<int, K>, const C* const* from, const int*, int64_t channels) {
    add_taps<starts>(std::make_index_sequence<K>{}, from, channels, sums_);
  }

  void store(int64_t place, int64_t p, int64_t q, int64_t channels) {
    const auto counted = static_cast<C>(pool_divisor(shape_, divisor_, p, q));
    if constexpr (std::is_same_v<T, C>) {
      for (int64_t i = 0; i < channels; ++i) output_[place + i] = sums_[i] / counted;
    } else {
      for (int64_t i = 0; i < channels; ++i) sums_[i] /= counted;
      narrow(sums_, output_ + place, channels);
    }
  }

 private:
  template <bool starts, size_t... k>
  static void add_taps(std::index_sequence<k...>, const C* const* from, int64_t channels, C* __restrict sums) {
    const C* const taps[] = {from[k]...};
    for (int64_t i = 0; i < channels; ++i) {
      C sum = starts ? C(0) : sums[i];
      ((sum += taps[k][i]), ...);
      sums[i] = sum;
    }
  }

  const PoolShape& shape_;
  const PoolDivisor& divisor_;
  T* output_;
  alignas(64) C sums_[kFoldedChannels];
};

/// The gradient of images of type T: quotients summed down the windows that hold a row, then along it.
template <class T>
class Backward {
 public:
  using C = Compute<T>;

  Backward(const PoolShape& shape, const PoolDivisor& divisor, PoolScratch& scratch)
      : shape_(shape),
        cut_(backward_cut(shape)),
        pitch_(cut_.channels),
        count_(pool_round_up(shape.x.out * pitch_, kPoolLanes<C>)),
        kept_((shape.y.kernel - 1) / shape.y.stride + 1),
        divisors_(shape, divisor, pitch_, count_, scratch),
        phases_(shape.x, pitch_, true, scratch),
        wide_(scratch.take<C>(std::is_same_v<T, C> ? 0 : shape.x.in * pitch_)),
        sums_(scratch.take<C>(count_)),
        quotients_(scratch.take<C>(kept_ * count_)),
        held_(scratch.take<int64_t>(kept_)) {}

  const PoolCut& cut() const { return cut_; }

  void prepare() {
    phases_.prepare(0);
    divisors_.prepare();
    // Beyond the windows, and in channels that an item does not have, there is nothing to spread.
    for (int64_t i = 0; i < kept_ * count_; ++i) quotients_[i] = 0;
  }

  void run(int64_t index, const void* grad, void* grad_input) {
    const PoolItem item = cut_.item(index);
    const PoolAxis& y = shape_.y;
    const int64_t in_row = shape_.x.in * shape_.inner, out_row = shape_.x.out * shape_.inner;
    for (int64_t slot = 0; slot < kept_; ++slot) held_[slot] = -1;
    for (int64_t row = item.row; row < item.end; ++row) {
      for (int64_t i = 0; i < count_; ++i) sums_[i] = 0;
      const PoolWindows windows(y, row);
      for (int64_t o = windows.begin; o < windows.end; ++o) {
        const int64_t slot = o % kept_;
        C* const quotients = quotients_ + slot * count_;
        if (held_[slot] != o) {
          load(static_cast<const T*>(grad) + (item.outer * y.out + o) * out_row + item.channel, item.channels,
               quotients);
          divisors_.divide(quotients, o);
          held_[slot] = o;
        }
        add_row(quotients, count_, sums_);
      }
      spread();
      store(static_cast<T*>(grad_input) + (item.outer * y.in + row) * in_row + item.channel, item.channels);
    }
  }

 private:
  void load(const T* from, int64_t channels, C* to) const {
    if (channels == shape_.inner) return load_run(from, shape_.x.out * channels, to);
    for (int64_t q = 0; q < shape_.x.out; ++q) load_run(from + q * shape_.inner, channels, to + q * pitch_);
  }

  static void load_run(const T* from, int64_t count, C* to) {
    if constexpr (std::is_same_v<T, C>) {
      memcpy(to, from, count * sizeof(C));
    } else {
      widen(from, to, count);
    }
  }

  void spread() {
    phases_.fill(0);
    for (int64_t begin = 0; begin < count_; begin += kPoolBlock) {
      const int64_t count = pool_min(kPoolBlock, count_ - begin);
      for (int64_t t = shape_.x.kernel - 1; t >= 0; --t) add_row(sums_ + begin, count, phases_.tap(t) + begin);
    }
  }

  void store(T* to, int64_t channels) {
    if constexpr (std::is_same_v<T, C>) {
      phases_.store(to, shape_.inner, channels);
    } else {
      phases_.store(wide_, pitch_, channels);
      pool_store(wide_, shape_.x.in, shape_.inner, channels, pitch_, to);
    }
  }

  PoolShape shape_;
  PoolCut cut_;
  int64_t pitch_, count_;
  int64_t kept_;  // windows down that a row lies in
  Divisors<C> divisors_;
  PoolPhases<C> phases_;
  C* wide_;
  C* sums_;
  C* quotients_;
  int64_t* held_;
};

template <template <class> class Pass>
PoolWork work_of(const PoolShape& shape, int64_t pixels_in_row) {
  PoolWork work{};
  visit_floating(shape.dtype, [&](auto tag) {
    PoolScratch scratch(nullptr);
    const Pass<typename decltype(tag)::type> pass(shape, {}, scratch);
    const PoolCut& cut = pass.cut();
    work = {cut.items(shape.outer), cut.rows * pixels_in_row * cut.channels, scratch.bytes()};
  });
  return work;
}

template <template <class> class Pass>
void run_items(const PoolShape& shape, const PoolDivisor& divisor, const void* from, void* to, void* memory,
               int64_t begin, int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    PoolScratch scratch(memory);
    Pass<typename decltype(tag)::type> pass(shape, divisor, scratch);
    pass.prepare();
    for (int64_t index = begin; index < end; ++index) pass.run(index, from, to);
  });
}

}  // namespace

PoolWork avg_pool2d_work(const PoolShape& shape) {
  return work_of<Forward>(shape, pool_max(shape.x.out, shape.y.stride * shape.x.in));
}

void avg_pool2d(const PoolShape& shape, const PoolDivisor& divisor, const void* input, void* output, void* scratch,
                int64_t begin, int64_t end) {
  if (!pool_by_windows(shape)) return run_items<Forward>(shape, divisor, input, output, scratch, begin, end);
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const PoolCut cut = forward_cut(shape);
    WindowFold<T> fold(shape, divisor, static_cast<T*>(output));
    PoolWindowWalk<T, WindowFold<T>> walk(shape, static_cast<const T*>(input), fold);
    for (int64_t index = begin; index < end; ++index) walk.run(cut.item(index));
  });
}

PoolWork avg_pool2d_backward_work(const PoolShape& shape) { return work_of<Backward>(shape, shape.x.in); }

void avg_pool2d_backward(const PoolShape& shape, const PoolDivisor& divisor, const void* grad, void* grad_input,
                         void* scratch, int64_t begin, int64_t end) {
  run_items<Backward>(shape, divisor, grad, grad_input, scratch, begin, end);
}

}  // namespace visionops::VISIONOPS_ISA
