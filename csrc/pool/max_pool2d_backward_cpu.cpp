// The gradient of max pooling on the CPU: each element of the input collects from the windows that hold it.
//
// Where channels are vectors and few windows hold a pixel, or windows halve a plane, pixels compare the offsets of
// their windows with their own tap in them. Else a window's gradient goes where its offset says, to rows that one item
// owns. All add in the order of the windows, so that they give the same bits.
#include "pool/max_compare.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const PoolShape& shape) {
  const int64_t span = (shape.y.kernel - 1) * shape.y.dilation + 1;
  return {shape.inner, shape.x.in, shape.y.in, 4 * span};
}

/// Gradients that go where their offsets say: to rows of sums with room for what lies beside the image, unless that is
/// much, or, where windows of planes have few taps and hardly any lies there, to the result itself.
template <class T, class O>
class Sending {
 public:
  using C = Compute<T>;

  Sending(const PoolShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        is_direct_(std::is_same_v<T, C> && shape.inner == 1 && shape.y.kernel * shape.x.kernel < kManyTaps),
        channels_(cut.channels),
        has_room_(!is_direct_ && room(shape.x) <= 2 * (shape.x.padding + shape.x.in)),
        beside_(has_room_ ? shape.x.padding : 0),
        width_(has_room_ ? room(shape.x) : shape.x.in),
        size_(cut.rows * width_ * channels_),
        together_(shape.inner == 1 && cut.strips == 1 && size_ <= kSmallPlane ? kPlanes : 1),
        places_(scratch.take<int64_t>(shape.y.kernel * shape.x.kernel)),
        columns_(scratch.take<int64_t>(shape.y.kernel * shape.x.kernel)),
        sums_(scratch.take<C>(is_direct_ ? 0 : together_ * size_)) {}

  /// Once the memory is there.
  void prepare() {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    for (int64_t tap = 0; tap < y.kernel * x.kernel; ++tap) {
      columns_[tap] = tap % x.kernel * x.dilation;
      places_[tap] = (tap / x.kernel * y.dilation * width_ + columns_[tap]) * channels_;
    }
  }

  /// How many items it takes at a time, if there are so many.
  int64_t together() const { return together_; }

  void run(const PoolItem& item, const MaxGradients<T, O>& at) { run_planes<1>(item, at); }

  /// The planes of that many items from the first on.
  void run_together(const PoolItem& first, const MaxGradients<T, O>& at) { run_planes<kPlanes>(first, at); }

 private:
  // In a small plane windows next to each other share their maximum, and additions to one sum wait for each other:
  // several planes take turns. Together they stay in the first cache.
  static constexpr int kPlanes = 4;
  static constexpr int64_t kSmallPlane = 2048;
  static constexpr int64_t kManyTaps = 16;

  /// From the left padding to the right one's end, or that of the last window.
  static int64_t room(const PoolAxis& x) {
    return pool_max(x.padding + x.in, (x.out - 1) * x.stride + (x.kernel - 1) * x.dilation + 1);
  }

  template <int planes>
  void run_planes(const PoolItem& item, const MaxGradients<T, O>& at) const {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    const int64_t rows = item.end - item.row, channels = item.channels, end = PoolWindows(y, item.end - 1).end;
    T* const to = at.input_row(item, item.row);
    C* sums = sums_;
    if constexpr (std::is_same_v<T, C>) sums = is_direct_ ? to : sums_;
    memset(sums, 0, (planes - 1) * size_ * sizeof(C) + rows * width_ * channels_ * sizeof(C));
    const WindowsInside seen(x);
    const Windows inside = has_room_ ? Windows{0, x.out} : Windows{seen.begin, seen.end};
    // The item's rows as if they were all.
    const PoolAxis strip = {rows, y.out, y.kernel, y.stride, y.padding + item.row, y.dilation};
    for (int64_t p = PoolWindows(y, item.row).begin; p < end; ++p) {
      const PoolTaps taps(strip, p);
      const Taps own = {taps.begin * x.kernel, (taps.end - taps.begin) * x.kernel};
      const int64_t row = at.window_row(item, p);
      C* const top = sums + ((p * strip.stride - strip.padding) * width_ + beside_ - x.padding) * channels_;
      if (shape_.inner == 1) {
        const auto send_windows = [&](auto is_inside, int64_t begin, int64_t end) {
          if (begin == end) return;
          const Windows windows = {begin, end};
          send<planes, is_inside.value>(at.grad + row, at.offsets + row, windows, {-x.padding, x.stride}, own, x.stride,
                                        top);
        };
        send_windows(std::false_type{}, 0, inside.begin);
        send_windows(std::true_type{}, inside.begin, inside.end);
        send_windows(std::false_type{}, inside.end, x.out);
      } else {
        for (int64_t q = 0; q < x.out; ++q) {
          const int64_t place = row + q * shape_.inner;
          const auto send_channels = [&](auto kind) {
            send<1, kind.value>(at.grad + place, at.offsets + place, {0, channels}, {q * x.stride - x.padding, 0}, own,
                                1, top + q * x.stride * channels_);
          };
          const bool is_inside = inside.begin <= q && q < inside.end;
          is_inside ? send_channels(std::true_type{}) : send_channels(std::false_type{});
        }
      }
    }
    for (int64_t plane = 0; !is_direct_ && plane < planes; ++plane) {
      for (int64_t r = 0; r < rows; ++r) {
        const C* const from = sums + plane * size_ + (r * width_ + beside_) * channels_;
        pool_store(from, x.in, shape_.inner, channels, channels_, to + (plane * y.in + r) * x.in * shape_.inner);
      }
    }
  }

  /// The taps of a window that lie in the rows at hand: all with numbers from the first on.
  struct Taps {
    int64_t first, count;
  };

  struct Windows {
    int64_t begin, end;
  };

  /// The pixels across at which windows begin.
  struct Starts {
    int64_t first, apart;
  };

  /// The gradients of some windows, or of channels of one, whose sums are `each` apart. Unless they lie inside, those
  /// of taps that do count. Not inline: it is called in five places.
  template <int planes, bool is_inside>
  [[gnu::noinline]] void send(const T* grad, const O* offsets, Windows some, Starts starts, Taps own, int64_t each,
                              C* sums) const {
    const int64_t apart = shape_.y.out * shape_.x.out;
    const int64_t *const places = places_ + own.first, *const columns = columns_ + own.first;
    const auto first = static_cast<uint32_t>(own.first), taps = static_cast<uint32_t>(own.count);
    sums += some.begin * each;
#pragma GCC unroll 4
    for (int64_t i = some.begin; i < some.end; ++i, sums += each) {
      for (int64_t plane = 0; plane < planes; ++plane) {
        const auto tap = static_cast<uint32_t>(offsets[plane * apart + i]) - first;
        if (tap >= taps) continue;
        if constexpr (!is_inside) {
          const int64_t column = starts.first + i * starts.apart + columns[tap];
          if (column < 0 || column >= shape_.x.in) continue;
        }
        sums[plane * size_ + places[tap]] += to_compute(grad[plane * apart + i]);
      }
    }
  }

  PoolShape shape_;
  bool is_direct_;
  int64_t channels_;
  bool has_room_;           // beside the image
  int64_t beside_, width_;  // of a row of sums, the pixels left of the image and all
  int64_t size_;            // of an item's sums
  int64_t together_;
  int64_t *places_, *columns_;  // of taps, from the window's first one
  C* sums_;
};

/// Calls f with the class of kernel that a call takes.
template <class F>
void visit_kernel(const PoolShape& shape, F&& f) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (!has_small_offsets(shape)) {
      f(Tag<Sending<T, int32_t>>{}, Tag<MaxGradients<T, int32_t>>{});
    } else if (compares_channels(shape)) {
      f(Tag<ComparedChannels<T>>{}, Tag<MaxGradients<T, uint8_t>>{});
    } else if (compares_halves(shape)) {
      f(Tag<ComparedHalves<T>>{}, Tag<MaxGradients<T, uint8_t>>{});
    } else {
      f(Tag<Sending<T, uint8_t>>{}, Tag<MaxGradients<T, uint8_t>>{});
    }
  });
}

template <class T, class O>
MaxGradients<T, O> gradients(Tag<MaxGradients<T, O>>, const PoolShape& shape, const void* grad, const void* offsets,
                             void* grad_input) {
  return {shape, static_cast<const T*>(grad), static_cast<const O*>(offsets), static_cast<T*>(grad_input)};
}

// A function for each kernel: in one for all of them the compiler keeps hardly a vector in a register.
template <class Kernel, class T, class O>
[[gnu::noinline]] void run_items(Kernel& kernel, const PoolCut& cut, const MaxGradients<T, O>& at, int64_t begin,
                                 int64_t end) {
  for (int64_t index = begin; index < end; ++index) kernel.run(cut.item(index), at);
}

template <class T, class O>
[[gnu::noinline]] void run_items(Sending<T, O>& kernel, const PoolCut& cut, const MaxGradients<T, O>& at, int64_t begin,
                                 int64_t end) {
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
