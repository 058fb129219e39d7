// The maximum of each window on the CPU: along each row once, then down the rows of a window; or window by window.
#include "pool/max_fold.h"
#include "pool/max_pool2d.h"
#include "pool/pool_windows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

int64_t span_of(const PoolAxis& y) { return (y.kernel - 1) * y.dilation + 1; }

// Rows that two windows share are made twice only where items meet.
PoolCut cut_of(const PoolShape& shape) {
  return {shape.inner, shape.x.out, shape.y.out, pool_ceil_div(4 * span_of(shape.y), shape.y.stride)};
}

template <class C>
constexpr C kLowest = -std::numeric_limits<C>::infinity();

/// By rows, over images of type T.
template <class T, bool with_offsets>
class ByRows {
 public:
  using C = Compute<T>;
  using I = TapNumber<C>;

  ByRows(const PoolShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        pitch_(cut.channels),
        count_(pool_round_up(shape.x.out * pitch_, kPoolLanes<C>)),
        kept_(pool_max(1, span_of(shape.y) - shape.y.stride)),
        phases_(shape.x, pitch_, false, scratch),
        wide_(scratch.take<C>(std::is_same_v<T, C> ? 0 : shape.x.in * pitch_)),
        taps_(scratch.take<const C*>(shape.x.kernel)),
        numbers_(scratch.take<I>(shape.x.kernel)),
        first_(scratch.take<I>(count_)),
        best_(scratch.take<C>(count_)),
        at_(scratch.take<I>(count_)),
        rows_(scratch.take<C>(kept_ * count_)),
        columns_(scratch.take<I>(kept_ * count_)),
        held_(scratch.take<int64_t>(kept_)) {}

  /// Once the memory is there.
  void prepare() {
    phases_.prepare(kLowest<C>);
    for (int64_t t = 0; t < shape_.x.kernel; ++t) numbers_[t] = static_cast<I>(t);
    for (int64_t i = 0; i < count_; ++i) first_[i] = 0;
    for (int64_t o = 0; o < shape_.x.out; ++o) {
      const PoolTaps taps(shape_.x, o);
      has_empty_columns_ |= taps.begin == taps.end;
      for (int64_t i = 0; i < pitch_; ++i) first_[o * pitch_ + i] = static_cast<I>(taps.begin);
    }
  }

  template <class O>
  void run(const PoolItem& item, const T* input, T* output, O* offsets) {
    const PoolAxis& y = shape_.y;
    const int64_t in_row = shape_.x.in * shape_.inner, out_row = shape_.x.out * shape_.inner;
    for (int64_t slot = 0; slot < kept_; ++slot) held_[slot] = -1;
    for (int64_t o = item.row; o < item.end; ++o) {
      const PoolTaps taps(y, o);
      if (taps.begin == taps.end) set_empty();
      for (int64_t t = taps.begin; t < taps.end; ++t) {
        const int64_t row = o * y.stride - y.padding + t * y.dilation, slot = row % kept_;
        if (held_[slot] != row) {
          make_row(input + (item.outer * y.in + row) * in_row + item.channel, item.channels, slot);
          held_[slot] = row;
        }
        const auto first = static_cast<I>(t * shape_.x.kernel);
        t == taps.begin ? begin_window(slot, first) : add_to_window(slot, first);
      }
      if (has_empty_columns_) clear_empty_columns();
      const int64_t place = (item.outer * y.out + o) * out_row + item.channel;
      pool_store(best_, shape_.x.out, shape_.inner, item.channels, pitch_, output + place);
      if constexpr (with_offsets) {
        pool_store(at_, shape_.x.out, shape_.inner, item.channels, pitch_, offsets + place);
      }
    }
  }

 private:
  void make_row(const T* from, int64_t channels, int64_t slot) {
    const PoolPixels<C> pixels = as_compute(from, shape_.x.in, shape_.inner, channels, pitch_, wide_);
    phases_.load(pixels.row, pixels.step, channels);
    C* const rows = rows_ + slot * count_;
    I* const columns = columns_ + slot * count_;
    for (int64_t begin = 0; begin < count_; begin += kPoolBlock) {
      const int64_t count = pool_min(kPoolBlock, count_ - begin);
      C* const best = rows + begin;
      I* const at = columns + begin;
      for (int64_t i = 0; i < count; ++i) best[i] = kLowest<C>;
      for (int64_t i = 0; i < count; ++i) at[i] = first_[begin + i];
      for (int64_t t = 0; t < shape_.x.kernel; ++t) taps_[t] = phases_.tap(t) + begin;
      visit_folds(shape_.x.kernel, [&](auto taps, int64_t first) {
        fold_max<with_offsets, false>(std::make_index_sequence<decltype(taps)::value>{}, taps_ + first,
                                      numbers_ + first, count, best, at);
      });
    }
  }

  void begin_window(int64_t slot, I first) {
    const C* const __restrict row = rows_ + slot * count_;
    const I* const __restrict columns = columns_ + slot * count_;
    for (int64_t i = 0; i < count_; ++i) best_[i] = row[i];
    if constexpr (with_offsets) {
      for (int64_t i = 0; i < count_; ++i) at_[i] = first + columns[i];
    }
  }

  void add_to_window(int64_t slot, I first) {
    const C* const __restrict row = rows_ + slot * count_;
    const I* const __restrict columns = columns_ + slot * count_;
    C* const __restrict best = best_;
    I* const __restrict at = at_;
    for (int64_t i = 0; i < count_; ++i) {
      const C value = row[i];
      const bool better = is_better(value, best[i]);
      best[i] = better ? value : best[i];
      if constexpr (with_offsets) at[i] = better ? first + columns[i] : at[i];
    }
  }

  /// Windows between whose taps the image lies have offset 0.
  void clear_empty_columns() {
    for (int64_t o = 0; o < shape_.x.out; ++o) {
      const PoolTaps taps(shape_.x, o);
      for (int64_t i = 0; taps.begin == taps.end && i < pitch_; ++i) at_[o * pitch_ + i] = 0;
    }
  }

  void set_empty() {
    for (int64_t i = 0; i < count_; ++i) best_[i] = kLowest<C>;
    for (int64_t i = 0; i < count_; ++i) at_[i] = 0;
  }

  PoolShape shape_;
  int64_t pitch_, count_;
  int64_t kept_;  // rows that the next window may share
  PoolPhases<C> phases_;
  C* wide_;
  const C** taps_;
  I* numbers_;
  bool has_empty_columns_ = false;
  I* first_;  // by window of a row: its first column inside the image
  C* best_;
  I* at_;
  C* rows_;
  I* columns_;
  int64_t* held_;
};

/// The best of some channels of a window, for PoolWindowWalk.
template <class T, class O>
class WindowFold {
 public:
  using C = Compute<T>;
  static constexpr bool kWithOffsets = !std::is_void_v<O>;

  WindowFold(T* output, O* offsets) : output_(output), offsets_(offsets) {}

  void set_empty(int64_t channels) {
    for (int64_t i = 0; i < channels; ++i) best_[i] = kLowest<C>;
    for (int64_t i = 0; i < channels; ++i) at_[i] = 0;
  }

  template <bool starts, int K>
  void add(std::integral_constant<int, K>, const C* const* taps, const int* numbers, int64_t channels) {
    TapNumber<C> wide[K];
    for (int k = 0; k < K; ++k) wide[k] = numbers[k];
    fold_max<kWithOffsets, starts>(std::make_index_sequence<K>{}, taps, wide, channels, best_, at_);
  }

  void store(int64_t place, int64_t, int64_t, int64_t channels) {
    pool_convert(best_, output_ + place, channels);
    if constexpr (kWithOffsets) pool_convert(at_, offsets_ + place, channels);
  }

 private:
  T* output_;
  O* offsets_;
  alignas(64) C best_[kFoldedChannels];
  alignas(64) TapNumber<C> at_[kFoldedChannels];
};

/// Offsets are of type O; there are none if it is void.
template <class T, class O>
void run_items(const PoolShape& shape, const T* input, T* output, O* offsets, void* memory, int64_t begin,
               int64_t end) {
  const PoolCut cut = cut_of(shape);
  if (pool_by_windows(shape)) {
    WindowFold<T, O> fold(output, offsets);
    PoolWindowWalk<T, WindowFold<T, O>> walk(shape, input, fold);
    for (int64_t index = begin; index < end; ++index) walk.run(cut.item(index));
    return;
  }
  PoolScratch scratch(memory);
  ByRows<T, !std::is_void_v<O>> rows(shape, cut, scratch);
  rows.prepare();
  for (int64_t index = begin; index < end; ++index) rows.run(cut.item(index), input, output, offsets);
}

}  // namespace

PoolWork max_pool2d_work(const PoolShape& shape) {
  const PoolCut cut = cut_of(shape);
  PoolScratch scratch(nullptr);
  visit_floating(shape.dtype, [&](auto tag) { ByRows<typename decltype(tag)::type, true>(shape, cut, scratch); });
  const int64_t pixels = pool_max(cut.rows * shape.x.out, cut.rows * shape.y.stride * shape.x.in);
  return {cut.items(shape.outer), pixels * cut.channels, scratch.bytes()};
}

void max_pool2d(const PoolShape& shape, const void* input, void* output, void* offsets, void* scratch, int64_t begin,
                int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = [&](auto* taps) {
      run_items(shape, static_cast<const T*>(input), static_cast<T*>(output), taps, scratch, begin, end);
    };
    if (offsets == nullptr) {
      run(offsets);
    } else if (has_small_offsets(shape)) {
      run(static_cast<uint8_t*>(offsets));
    } else {
      run(static_cast<int32_t*>(offsets));
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
