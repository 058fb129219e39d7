// The gradient of max pooling on the CPU: each row of the input collects from the windows that hold it.
//
// A window's gradient goes where its offset says, to rows that one item owns. Where channels are vectors and windows
// have few taps it is quicker to compare the offsets with each tap. Both add in the order of the windows, so that they
// give the same bits.
#include "pool/max_pool2d.h"
#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// From so many taps on a comparison for each costs more than to go to one.
constexpr int64_t kManyTaps = 16;

bool compares(const PoolShape& shape) {
  return shape.inner >= kPoolLanes<float> && shape.y.kernel * shape.x.kernel < kManyTaps;
}

int64_t windows_of_row(const PoolAxis& y) { return (y.kernel - 1) * y.dilation / y.stride + 1; }

PoolCut cut_of(const PoolShape& shape) {
  const int64_t span = (shape.y.kernel - 1) * shape.y.dilation + 1;
  return {shape.inner, shape.x.in, shape.y.in, 4 * span};
}

/// What both ways share: where rows stand.
template <class T, class O>
struct Gradients {
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

/// Rows of gradients that compare the offsets of their windows with each tap.
template <class T, class O>
class Comparing {
 public:
  using C = Compute<T>;
  // As wide as the values, so that a mask of one is a mask of the other.
  using I = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;

  Comparing(const PoolShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        pitch_(cut.channels),
        count_(pool_round_up(shape.x.out * pitch_, kPoolLanes<C>)),
        kept_(windows_of_row(shape.y)),
        phases_(shape.x, pitch_, true, scratch),
        wide_(scratch.take<C>(std::is_same_v<T, C> ? 0 : shape.x.in * pitch_)),
        grads_(scratch.take<C>(kept_ * count_)),
        taps_(scratch.take<I>(kept_ * count_)),
        held_(scratch.take<int64_t>(kept_)) {}

  void prepare() {
    phases_.prepare(0);
    // Beyond the windows, and in channels that an item does not have, no gradient goes anywhere.
    for (int64_t i = 0; i < kept_ * count_; ++i) grads_[i] = 0;
    for (int64_t i = 0; i < kept_ * count_; ++i) taps_[i] = -1;
  }

  void run(const PoolItem& item, const Gradients<T, O>& at) {
    const PoolAxis& y = shape_.y;
    for (int64_t slot = 0; slot < kept_; ++slot) held_[slot] = -1;
    for (int64_t row = item.row; row < item.end; ++row) {
      phases_.fill(0);
      const PoolWindows windows(y, row);
      for (int64_t o = windows.begin; o < windows.end; ++o) {
        const int64_t beyond = row + y.padding - o * y.stride, slot = o % kept_;
        if (beyond % y.dilation != 0) continue;
        if (held_[slot] != o) {
          load(at.grad + at.window_row(item, o), at.offsets + at.window_row(item, o), item.channels, slot);
          held_[slot] = o;
        }
        add(slot, beyond / y.dilation * shape_.x.kernel);
      }
      store(at.input_row(item, row), item.channels);
    }
  }

 private:
  void load(const T* grad, const O* offsets, int64_t channels, int64_t slot) {
    C* const grads = grads_ + slot * count_;
    I* const taps = taps_ + slot * count_;
    const int64_t run = channels == shape_.inner ? shape_.x.out * shape_.inner : channels;
    for (int64_t begin = 0, from = 0; from < shape_.x.out * shape_.inner; begin += pitch_, from += shape_.inner) {
      if constexpr (std::is_same_v<T, C>) {
        memcpy(grads + begin, grad + from, run * sizeof(C));
      } else {
        widen(grad + from, grads + begin, run);
      }
      for (int64_t i = 0; i < run; ++i) taps[begin + i] = static_cast<I>(offsets[from + i]);
      if (channels == shape_.inner) break;
    }
  }

  void add(int64_t slot, int64_t first) {
    for (int64_t begin = 0; begin < count_; begin += kPoolBlock) {
      const int64_t count = pool_min(kPoolBlock, count_ - begin);
      const C* const __restrict grads = grads_ + slot * count_ + begin;
      const I* const __restrict taps = taps_ + slot * count_ + begin;
      // From the last tap, which is that of the first window.
      for (int64_t t = shape_.x.kernel - 1; t >= 0; --t) {
        C* const __restrict sums = phases_.tap(t) + begin;
        const auto tap = static_cast<I>(first + t);
        for (int64_t i = 0; i < count; ++i) sums[i] += taps[i] == tap ? grads[i] : C(0);
      }
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
  int64_t pitch_, count_;
  int64_t kept_;  // windows down that a row lies in
  PoolPhases<C> phases_;
  C* wide_;
  C* grads_;
  I* taps_;
  int64_t* held_;
};

/// Gradients that go where their offsets say.
template <class T, class O>
class Sending {
 public:
  using C = Compute<T>;

  Sending(const PoolShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        taps_(shape.y.kernel * shape.x.kernel),
        step_(std::is_same_v<T, C> ? shape.inner : cut.channels),
        places_(scratch.take<int64_t>(taps_)),
        down_(scratch.take<int64_t>(taps_)),
        across_(scratch.take<int64_t>(taps_)),
        wide_(scratch.take<C>(std::is_same_v<T, C> ? 0 : cut.rows * shape.x.in * cut.channels)) {
    const PoolAxis& x = shape.x;
    // Windows across whose every tap lies in the image.
    inner_begin_ = pool_min(pool_ceil_div(x.padding, x.stride), x.out);
    const int64_t room = x.in + x.padding - (x.kernel - 1) * x.dilation;
    inner_end_ = room > 0 ? pool_max(inner_begin_, pool_min(pool_ceil_div(room, x.stride), x.out)) : inner_begin_;
  }

  void prepare() {
    const PoolAxis& x = shape_.x;
    for (int64_t tap = 0; tap < taps_; ++tap) {
      down_[tap] = tap / x.kernel * shape_.y.dilation;
      across_[tap] = tap % x.kernel * x.dilation;
      places_[tap] = (down_[tap] * x.in + across_[tap]) * step_;
    }
  }

  void run(const PoolItem& item, const Gradients<T, O>& at) {
    if constexpr (std::is_same_v<T, C>) {
      send(item, at, at.input_row(item, item.row));
    } else {
      send(item, at, wide_);
      const int64_t pixels = (item.end - item.row) * shape_.x.in;
      pool_store(wide_, pixels, shape_.inner, item.channels, step_, at.input_row(item, item.row));
    }
  }

 private:
  /// Into the item's rows at `sums`.
  void send(const PoolItem& item, const Gradients<T, O>& at, C* sums) const {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    const int64_t rows = item.end - item.row, end = PoolWindows(y, item.end - 1).end;
    pool_clear(sums, rows * x.in, step_, item.channels);
    for (int64_t p = PoolWindows(y, item.row).begin; p < end; ++p) {
      const int64_t top = p * y.stride - y.padding - item.row;
      const bool is_inside = top >= 0 && top + (y.kernel - 1) * y.dilation < rows;
      const int64_t begin = is_inside ? inner_begin_ : x.out, end_of_inner = is_inside ? inner_end_ : x.out;
      const T* const grad = at.grad + at.window_row(item, p);
      const O* const offsets = at.offsets + at.window_row(item, p);
      for (int64_t q = 0; q < begin; ++q) send_within(item, top, q, grad, offsets, sums);
      const int64_t first = (top * x.in - x.padding) * step_;
      for (int64_t q = begin; q < end_of_inner;) {
        // Of one channel a row of windows is what of many channels a window is.
        const int64_t run = shape_.inner == 1 ? end_of_inner - q : item.channels, from = q * shape_.inner;
        const int64_t each = shape_.inner == 1 ? x.stride : 1;
        send_inside(grad + from, offsets + from, run, each, sums + first + q * x.stride * step_);
        q += shape_.inner == 1 ? run : 1;
      }
      for (int64_t q = end_of_inner; q < x.out; ++q) send_within(item, top, q, grad, offsets, sums);
    }
  }

  /// Of `count` values whose windows lie in the item's rows, `each` apart.
  void send_inside(const T* grad, const O* offsets, int64_t count, int64_t each, C* window) const {
    const int64_t* const places = places_;
    const auto taps = static_cast<uint32_t>(taps_);
    for (int64_t i = 0; i < count; ++i, window += each) {
      const auto tap = static_cast<uint32_t>(offsets[i]);
      if (tap < taps) window[places[tap]] += to_compute(grad[i]);
    }
  }

  /// Of a window that other rows or the padding have a part in.
  void send_within(const PoolItem& item, int64_t top, int64_t q, const T* grad, const O* offsets, C* sums) const {
    const auto rows = static_cast<uint64_t>(item.end - item.row), columns = static_cast<uint64_t>(shape_.x.in);
    const int64_t left = q * shape_.x.stride - shape_.x.padding;
    for (int64_t channel = 0; channel < item.channels; ++channel) {
      const int64_t place = q * shape_.inner + channel;
      const auto tap = static_cast<uint32_t>(offsets[place]);
      if (tap >= taps_) continue;
      // What is negative becomes too large.
      const auto row = static_cast<uint64_t>(top + down_[tap]), column = static_cast<uint64_t>(left + across_[tap]);
      if (row < rows && column < columns) {
        sums[static_cast<int64_t>(row * columns + column) * step_ + channel] += to_compute(grad[place]);
      }
    }
  }

  PoolShape shape_;
  int64_t taps_, step_;
  int64_t inner_begin_, inner_end_;
  // Of a tap, from the window's first one.
  int64_t* places_;
  int64_t* down_;
  int64_t* across_;
  C* wide_;
};

/// Calls f with the class of kernel that a call takes.
template <class F>
void visit_kernel(const PoolShape& shape, F&& f) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (!has_small_offsets(shape)) {
      f(Tag<Sending<T, int32_t>>{}, Tag<Gradients<T, int32_t>>{});
    } else if (compares(shape)) {
      f(Tag<Comparing<T, uint8_t>>{}, Tag<Gradients<T, uint8_t>>{});
    } else {
      f(Tag<Sending<T, uint8_t>>{}, Tag<Gradients<T, uint8_t>>{});
    }
  });
}

template <class T, class O>
Gradients<T, O> gradients(Tag<Gradients<T, O>>, const PoolShape& shape, const void* grad, const void* offsets,
                          void* grad_input) {
  return {shape, static_cast<const T*>(grad), static_cast<const O*>(offsets), static_cast<T*>(grad_input)};
}

}  // namespace

PoolWork max_pool2d_backward_work(const PoolShape& shape) {
  const PoolCut cut = cut_of(shape);
  PoolScratch scratch(nullptr);
  visit_kernel(shape, [&](auto kernel, auto) { typename decltype(kernel)::type(shape, cut, scratch); });
  return {cut.items(shape.outer), cut.rows * shape.x.in * cut.channels, scratch.bytes()};
}

void max_pool2d_backward(const PoolShape& shape, const void* grad, const void* offsets, void* grad_input, void* scratch,
                         int64_t begin, int64_t end) {
  const PoolCut cut = cut_of(shape);
  visit_kernel(shape, [&](auto kernel, auto kind) {
    PoolScratch parts(scratch);
    typename decltype(kernel)::type rows(shape, cut, parts);
    rows.prepare();
    const auto at = gradients(kind, shape, grad, offsets, grad_input);
    for (int64_t index = begin; index < end; ++index) rows.run(cut.item(index), at);
  });
}

}  // namespace visionops::VISIONOPS_ISA
