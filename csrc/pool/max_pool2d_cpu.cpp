// The maximum of each window on the CPU: along each row once, then down the rows of a window; of few taps all at once;
// or window by window.
#include "pool/dealt_windows.h"
#include "pool/turned_planes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

int64_t span_of(const PoolAxis& y) { return (y.kernel - 1) * y.dilation + 1; }

// Rows that two windows share are made twice only where items meet.
PoolCut cut_of(const PoolShape& shape) {
  return {shape.inner, shape.x.out, shape.y.out, pool_ceil_div(4 * span_of(shape.y), shape.y.stride)};
}

/// Windows across whose first tap lies in the padding, or every tap.
class SideWindows {
 public:
  SideWindows(const PoolAxis& x, int64_t pitch) : x_(x), pitch_(pitch) {
    for (int64_t q = 0; q < x.out; ++q) {
      const PoolTaps taps(x, q);
      if (taps.begin > 0) cut_off_ = q + 1;
      has_empty_ |= taps.begin == taps.end;
    }
  }

  /// If all of a window is -inf its first tap inside the image counts: `first` is the number of its row's first one.
  template <class I>
  void count_inside(int64_t first, I* numbers) const {
    for (int64_t q = 0; q < cut_off_; ++q) {
      const auto inside = static_cast<I>(first + PoolTaps(x_, q).begin);
      for (int64_t i = q * pitch_; i < (q + 1) * pitch_; ++i) numbers[i] = numbers[i] < inside ? inside : numbers[i];
    }
  }

  /// Windows between whose taps the image lies have number 0.
  template <class I>
  void clear_empty(I* numbers) const {
    for (int64_t q = 0; has_empty_ && q < x_.out; ++q) {
      const PoolTaps taps(x_, q);
      for (int64_t i = 0; taps.begin == taps.end && i < pitch_; ++i) numbers[q * pitch_ + i] = 0;
    }
  }

 private:
  PoolAxis x_;
  int64_t pitch_;
  int64_t cut_off_ = 0;
  bool has_empty_ = false;
};

/// By rows, which are computed in type C. run() is compiled for each type of image and offsets: what does not depend on
/// them is not inline.
template <class C, bool kWithOffsets>
class ByRows {
 public:
  using I = TapNumber<C>;

  ByRows(const PoolShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        pitch_(cut.channels),
        count_(pool_round_up(shape.x.out * pitch_, kPoolLanes<C>)),
        kept_(pool_min(span_of(shape.y), shape.y.in)),
        sides_(shape.x, pitch_),
        phases_(shape.x, pitch_, scratch),
        wide_(scratch.take<C>(shape.x.in * pitch_)),
        taps_(scratch.take<const C*>(pool_max(shape.y.kernel, shape.x.kernel))),
        columns_of_taps_(scratch.take<const I*>(shape.y.kernel)),
        numbers_(scratch.take<I>(pool_max(shape.y.kernel, shape.x.kernel))),
        best_(scratch.take<C>(count_)),
        at_(scratch.take<I>(count_)),
        narrow_(scratch.take<int32_t>(count_)),
        rows_(scratch.take<C>(kept_ * count_)),
        columns_(scratch.take<I>(kept_ * count_)),
        held_(scratch.take<int64_t>(kept_)) {}

  /// Once the memory is there.
  void prepare() { phases_.prepare(kLowest<C>); }

  /// Offsets are of type O; there are none if it is void.
  template <class T, class O>
  void run(const PoolItem& item, const T* input, T* output, O* offsets) {
    const PoolAxis& y = shape_.y;
    const int64_t in_row = shape_.x.in * shape_.inner, out_row = shape_.x.out * shape_.inner;
    for (int64_t slot = 0; slot < kept_; ++slot) held_[slot] = -1;
    for (int64_t o = item.row; o < item.end; ++o) {
      const PoolTaps taps(y, o);
      if (taps.begin == taps.end) set_empty();
      for (int64_t t = taps.begin; t < taps.end; ++t) {
        const int64_t row = o * y.stride - y.padding + t * y.dilation;
        const int64_t slot = row - pool_axis_div(row, kept_) * kept_;
        if (held_[slot] != row) {
          const T* const from = input + (item.outer * y.in + row) * in_row + item.channel;
          make_row(as_compute(from, shape_.x.in, shape_.inner, item.channels, pitch_, wide_), item.channels, slot);
          held_[slot] = row;
        }
      }
      fold_rows(o, taps);
      if constexpr (kWithOffsets) sides_.clear_empty(at_);
      const int64_t place = (item.outer * y.out + o) * out_row + item.channel;
      pool_store(best_, shape_.x.out, shape_.inner, item.channels, pitch_, output + place);
      if constexpr (kWithOffsets) {
        // Whole vectors first: they are narrowed to four times as many lanes.
        O* const narrow = reinterpret_cast<O*>(narrow_);
        pool_convert(at_, narrow, count_);
        pool_store(narrow, shape_.x.out, shape_.inner, item.channels, pitch_, offsets + place);
      }
    }
  }

 private:
  /// The maxima along a row, and their columns in the windows.
  [[gnu::noinline]] void make_row(const PoolPixels<C>& pixels, int64_t channels, int64_t slot) {
    phases_.load(pixels.row, pixels.step, channels);
    C* const best = rows_ + slot * count_;
    I* const at = columns_ + slot * count_;
    for (int64_t begin = 0; begin < count_; begin += kPoolBlock) {
      const int64_t count = pool_min(kPoolBlock, count_ - begin);
      for (int64_t t = 0; t < shape_.x.kernel; ++t) {
        taps_[t] = phases_.tap(t) + begin;
        numbers_[t] = static_cast<I>(t);
      }
      fold<false>(shape_.x.kernel, count, best + begin, at + begin);
    }
    if constexpr (kWithOffsets) sides_.count_inside(0, at);
  }

  /// The maxima of window row `o`, of its rows' maxima.
  [[gnu::noinline]] void fold_rows(int64_t o, const PoolTaps& taps) {
    const PoolAxis& y = shape_.y;
    for (int64_t t = taps.begin; t < taps.end; ++t) {
      const int64_t row = o * y.stride - y.padding + t * y.dilation;
      const int64_t slot = row - pool_axis_div(row, kept_) * kept_;
      taps_[t - taps.begin] = rows_ + slot * count_;
      columns_of_taps_[t - taps.begin] = columns_ + slot * count_;
      numbers_[t - taps.begin] = static_cast<I>(t * shape_.x.kernel);
    }
    fold<kWithOffsets>(taps.end - taps.begin, count_, best_, at_);
  }

  /// Of the first `taps` of taps_.
  template <bool by_column>
  void fold(int64_t taps, int64_t count, C* best, I* at) {
    visit_folds<kMaxTaps>(taps, [&](auto some, int64_t first) {
      constexpr std::make_index_sequence<decltype(some)::value> each;
      const I* const* const columns = columns_of_taps_ + (by_column ? first : 0);
      if (first == 0) {
        fold_max<kWithOffsets, true, by_column>(each, taps_, numbers_, columns, count, best, at);
      } else {
        fold_max<kWithOffsets, false, by_column>(each, taps_ + first, numbers_ + first, columns, count, best, at);
      }
    });
  }

  void set_empty() {
    for (int64_t i = 0; i < count_; ++i) best_[i] = kLowest<C>;
    for (int64_t i = 0; i < count_; ++i) at_[i] = 0;
  }

  PoolShape shape_;
  int64_t pitch_, count_;
  int64_t kept_;  // rows from the first to the last of a window
  SideWindows sides_;
  PoolPhases<C> phases_;
  C* wide_;
  const C** taps_;
  const I** columns_of_taps_;
  I* numbers_;
  C* best_;
  I* at_;
  int32_t* narrow_;  // memory for offsets of either type
  C* rows_;
  I* columns_;
  int64_t* held_;
};

/// The maxima of some windows and, unless O is void, the numbers of their taps. Not inline, for what calls it is
/// compiled for each type of image.
template <class C, class O>
[[gnu::noinline]] void fold_dealt(const DealtTaps<C>& taps, int64_t count, C* best, O* numbers, int64_t place) {
  using I = TapNumber<C>;
  for_vectors<C>(count, [&](auto vectors, int64_t begin, int last) {
    constexpr int n = decltype(vectors)::value;
    Lanes<C> most[n], nan[n];
    Lanes<I> number[n];
    for (int v = 0; v < n; ++v) most[v] = nan[v] = load(taps.rows[0] + begin + v * kLanes<C>);
    for (int v = 0; v < n; ++v) number[v] = all_lanes(static_cast<I>(taps.first));
    for (int64_t tap = 1; tap < taps.count; ++tap) {
      const Lanes<I> own = all_lanes(static_cast<I>(taps.first + tap));
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) {
        const Lanes<C> value = load(taps.rows[tap] + begin + v * kLanes<C>);
        // Of values alone NaNs may go aside, and the maximum is an instruction; else is_better, as one mask of lanes.
        if constexpr (std::is_void_v<O>) {
          nan[v] = value != value ? value : nan[v];
          most[v] = value > most[v] ? value : most[v];
        } else {
          number[v] = value > most[v] ? own : number[v];
          number[v] = value != value ? own : number[v];
          most[v] = value > most[v] ? value : most[v];
          most[v] = value != value ? value : most[v];
        }
      }
    }
    for (int v = 0; v < n; ++v) {
      const int64_t i = begin + v * kLanes<C>;
      const int lanes = v == n - 1 ? last : kLanes<C>;
      if constexpr (std::is_void_v<O>) most[v] = nan[v] != nan[v] ? nan[v] : most[v];
      store(best + i, most[v], lanes);
      if constexpr (!std::is_void_v<O>) {
        typedef O Narrow __attribute__((vector_size(kLanes<C> * sizeof(O))));
        const auto narrow = __builtin_convertvector(number[v], Narrow);
        memcpy(numbers + place + i, &narrow, lanes * sizeof(O));
      }
    }
  });
}

/// By rows of few taps.
template <class C>
class ByDealt {
 public:
  ByDealt(const PoolShape& shape, PoolScratch& scratch)
      : count_(shape.x.out * shape.inner),
        sides_(shape.x, shape.inner),
        windows_(shape, scratch),
        best_(scratch.take<C>(count_)) {}

  void prepare() { windows_.prepare(kLowest<C>); }

  /// Offsets are of type O; there are none if it is void.
  template <class T, class O>
  void run(const PoolItem& item, const T* input, T* output, O* offsets) {
    windows_.run(item, input, [&](int64_t, int64_t place, const DealtTaps<C>& taps) {
      C* best = best_;
      if constexpr (std::is_same_v<T, C>) best = output + place;
      if (taps.count > 0) {
        fold_dealt(taps, count_, best, offsets, place);
      } else {
        for (int64_t i = 0; i < count_; ++i) best[i] = kLowest<C>;
      }
      if constexpr (!std::is_same_v<T, C>) narrow(best, output + place, count_);
      if constexpr (!std::is_void_v<O>) {
        if (taps.count > 0) {
          sides_.count_inside(taps.first, offsets + place);
          sides_.clear_empty(offsets + place);
        } else {
          memset(offsets + place, 0, count_ * sizeof(O));
        }
      }
    });
  }

 private:
  int64_t count_;
  SideWindows sides_;
  DealtWindows<C> windows_;
  C* best_;  // of 16-bit types
};

bool by_turned(const PoolShape& shape) { return turns_planes(shape) && pool_has_few_taps(shape); }

template <class T, class O>
void run_items(const PoolShape& shape, const T* input, T* output, O* offsets, void* memory, int64_t begin,
               int64_t end) {
  const PoolCut cut = cut_of(shape);
  if (pool_by_windows(shape)) {
    return walk_windows(shape, cut, input, MaximumFold<T, O>(output, offsets), begin, end);
  }
  PoolScratch scratch(memory);
  if (by_turned(shape)) {
    return TurnedFolds<Compute<T>, PoolShape>(shape, scratch).maximum(input, output, offsets, begin, end);
  }
  const auto run_rows = [&](auto rows) {
    rows.prepare();
    for (int64_t index = begin; index < end; ++index) rows.run(cut.item(index), input, output, offsets);
  };
  if constexpr (!std::is_same_v<O, int32_t>) {  // which are for more taps
    if (pool_by_dealt(shape)) return run_rows(ByDealt<Compute<T>>(shape, scratch));
  }
  run_rows(ByRows<Compute<T>, !std::is_void_v<O>>(shape, cut, scratch));
}

}  // namespace

PoolWork max_pool2d_work(const PoolShape& shape) {
  const PoolCut cut = cut_of(shape);
  const int64_t pixels = pool_max(cut.rows * shape.x.out, cut.rows * shape.y.stride * shape.x.in);
  PoolWork work = {cut.items(shape.outer), pixels * cut.channels, 0};
  visit_floating(shape.dtype, [&](auto tag) {
    using C = Compute<typename decltype(tag)::type>;
    PoolScratch scratch(nullptr);
    if (by_turned(shape)) {
      const TurnedFolds<C, PoolShape> folds(shape, scratch);
      work = folds.work(scratch);
    } else if (pool_by_dealt(shape)) {
      ByDealt<C>(shape, scratch);
      work.scratch_bytes = scratch.bytes();
    } else {
      ByRows<C, true>(shape, cut, scratch);
      work.scratch_bytes = scratch.bytes();
    }
  });
  return work;
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
