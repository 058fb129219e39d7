// The gradient of average pooling on the CPU: quotients summed down the windows that hold a row, then along it.
#include "pool/avg_rows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const PoolShape& shape) { return {shape.inner, shape.x.in, shape.y.in, 4 * shape.y.kernel}; }

/// Over images of type T.
template <class T>
class Backward {
 public:
  using C = Compute<T>;

  Backward(const PoolShape& shape, const PoolDivisor& divisor, PoolScratch& scratch)
      : shape_(shape),
        cut_(cut_of(shape)),
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

}  // namespace

PoolWork avg_pool2d_backward_work(const PoolShape& shape) { return avg_work_of<Backward>(shape, shape.x.in); }

void avg_pool2d_backward(const PoolShape& shape, const PoolDivisor& divisor, const void* grad, void* grad_input,
                         void* scratch, int64_t begin, int64_t end) {
  avg_run_items<Backward>(shape, divisor, grad, grad_input, scratch, begin, end);
}

}  // namespace visionops::VISIONOPS_ISA
