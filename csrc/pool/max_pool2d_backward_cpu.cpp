// The gradient of max pooling on the CPU: each element of the input collects from the windows that hold it.
//
// Where channels are vectors and windows have few taps, a pixel compares the offsets of its windows with its own tap in
// them. Else a window's gradient goes where its offset says, to rows that one item owns. Both add in the order of the
// windows, so that they give the same bits.
#include <utility>

#include "pool/max_pool2d.h"
#include "pool/pool_windows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// From so many taps on a comparison for each costs more than to go to one.
constexpr int64_t kManyTaps = 16;

bool compares(const PoolShape& shape) {
  return shape.inner >= kPoolLanes<float> && shape.y.kernel * shape.x.kernel < kManyTaps;
}

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

/// sums[i] = the sum of those of gradients k in order, and before them, unless it starts, of itself, whose offset is
/// number k.
template <bool starts, class C, class O, size_t... k>
void collect(std::index_sequence<k...>, const C* const* from, const O* const* from_offsets, const O* from_numbers,
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

/// Pixels whose channels are vectors.
template <class T, class O>
class Comparing {
 public:
  using C = Compute<T>;

  Comparing(const PoolShape& shape, const PoolCut&, PoolScratch& scratch)
      : shape_(shape),
        columns_(scratch.take<Tap>(shape.x.in * shape.x.kernel)),
        counts_(scratch.take<int64_t>(shape.x.in)) {}

  /// Once the memory is there.
  void prepare() {
    for (int64_t x = 0; x < shape_.x.in; ++x) counts_[x] = find_taps(shape_.x, x, columns_ + x * shape_.x.kernel);
  }

  void run(const PoolItem& item, const Gradients<T, O>& at) {
    for (int64_t y = item.row; y < item.end; ++y) {
      Tap rows[kManyTaps];
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
        collect<true>(each, grads, offsets, numbers_, channels, sums);
      } else {
        collect<false>(each, grads, offsets, numbers_ + first, channels, sums);
      }
    });
    if constexpr (!std::is_same_v<T, C>) narrow(sums, to, channels);
  }

  static constexpr bool kIsNarrow = !std::is_same_v<T, C>;

  PoolShape shape_;
  Tap* columns_;  // by column of the input, as many as counted
  int64_t* counts_;
  // The windows of a pixel.
  const T* grads_[kManyTaps];
  const O* offsets_[kManyTaps];
  O numbers_[kManyTaps];
  alignas(64) C wide_[kIsNarrow ? kMostWindows : 1][kIsNarrow ? kFoldedChannels : 1];
  alignas(64) C sums_[kIsNarrow ? kFoldedChannels : 1];
};

/// Gradients that go where their offsets say, to rows of sums with room for what lies beside the image.
template <class T, class O>
class Sending {
 public:
  using C = Compute<T>;

  Sending(const PoolShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        channels_(cut.channels),
        width_(pool_max(shape.x.padding + shape.x.in,
                        (shape.x.out - 1) * shape.x.stride + (shape.x.kernel - 1) * shape.x.dilation + 1)),
        size_(cut.rows * width_ * channels_),
        together_(shape.inner == 1 && cut.strips == 1 && size_ <= kSmallPlane ? kPlanes : 1),
        places_(scratch.take<int64_t>(shape.y.kernel * shape.x.kernel)),
        sums_(scratch.take<C>(together_ * size_)) {}

  /// Once the memory is there.
  void prepare() {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    for (int64_t tap = 0; tap < y.kernel * x.kernel; ++tap) {
      places_[tap] = (tap / x.kernel * y.dilation * width_ + tap % x.kernel * x.dilation) * channels_;
    }
  }

  /// How many items it takes at a time, if there are so many.
  int64_t together() const { return together_; }

  void run(const PoolItem& item, const Gradients<T, O>& at) { run_planes<1>(item, at); }

  /// The planes of that many items from the first on.
  void run_together(const PoolItem& first, const Gradients<T, O>& at) { run_planes<kPlanes>(first, at); }

 private:
  // In a small plane windows next to each other share their maximum, and additions to one sum wait for each other:
  // several planes take turns. Together they stay in the first cache.
  static constexpr int kPlanes = 4;
  static constexpr int64_t kSmallPlane = 2048;

  template <int planes>
  void run_planes(const PoolItem& item, const Gradients<T, O>& at) const {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    const int64_t rows = item.end - item.row, channels = item.channels, end = PoolWindows(y, item.end - 1).end;
    memset(sums_, 0, planes * size_ * sizeof(C));
    // The item's rows as if they were all.
    const PoolAxis strip = {rows, y.out, y.kernel, y.stride, y.padding + item.row, y.dilation};
    for (int64_t p = PoolWindows(y, item.row).begin; p < end; ++p) {
      const PoolTaps taps(strip, p);
      const Taps own = {taps.begin * x.kernel, (taps.end - taps.begin) * x.kernel};
      const int64_t row = at.window_row(item, p), top = (p * strip.stride - strip.padding) * width_ * channels_;
      if (shape_.inner == 1) {
        send<planes>(at.grad + row, at.offsets + row, x.out, x.stride, own, top);
      } else {
        for (int64_t q = 0; q < x.out; ++q) {
          const int64_t place = row + q * shape_.inner;
          send<1>(at.grad + place, at.offsets + place, channels, 1, own, top + q * x.stride * channels_);
        }
      }
    }
    for (int64_t plane = 0; plane < planes; ++plane) {
      T* const to = at.input_row(item, item.row) + plane * y.in * x.in;
      for (int64_t r = 0; r < rows; ++r) {
        const C* const from = sums_ + plane * size_ + (r * width_ + x.padding) * channels_;
        pool_store(from, x.in, shape_.inner, channels, channels_, to + r * x.in * shape_.inner);
      }
    }
  }

  /// The taps of a window that lie in the rows at hand: all with numbers from the first on.
  struct Taps {
    int64_t first, count;
  };

  /// The gradients of `count` windows, or of channels of one, whose sums are `each` apart.
  template <int planes>
  void send(const T* grad, const O* offsets, int64_t count, int64_t each, Taps own, int64_t window) const {
    const int64_t apart = shape_.y.out * shape_.x.out;
    const int64_t* const places = places_ + own.first;
    const auto first = static_cast<uint32_t>(own.first), taps = static_cast<uint32_t>(own.count);
    for (int64_t i = 0; i < count; ++i, window += each) {
      for (int64_t plane = 0; plane < planes; ++plane) {
        const auto tap = static_cast<uint32_t>(offsets[plane * apart + i]) - first;
        if (tap < taps) sums_[plane * size_ + window + places[tap]] += to_compute(grad[plane * apart + i]);
      }
    }
  }

  PoolShape shape_;
  int64_t channels_, width_;
  int64_t size_;  // of an item's sums
  int64_t together_;
  int64_t* places_;  // of taps, from the window's first one
  C* sums_;
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

template <class T, class O>
void run_items(Comparing<T, O>& kernel, const PoolCut& cut, const Gradients<T, O>& at, int64_t begin, int64_t end) {
  for (int64_t index = begin; index < end; ++index) kernel.run(cut.item(index), at);
}

template <class T, class O>
void run_items(Sending<T, O>& kernel, const PoolCut& cut, const Gradients<T, O>& at, int64_t begin, int64_t end) {
  int64_t index = begin;
  for (; end - index >= kernel.together() && kernel.together() > 1; index += kernel.together()) {
    kernel.run_together(cut.item(index), at);
  }
  for (; index < end; ++index) kernel.run(cut.item(index), at);
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
    run_items(rows, cut, gradients(kind, shape, grad, offsets, grad_input), begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
