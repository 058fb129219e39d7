// What the CPU kernels of pooling share: how work is cut, and rows of pixels sorted so that taps are vectors.
//
// Tap t of window o is pixel o * stride + t * dilation, counted from the left padding: in the phase of the pixels that
// leave the remainder t * dilation % stride, the windows' taps t stand one beside the other. A row is therefore dealt
// into its phases once, and all that follows is arithmetic on contiguous vectors, in either layout and with any
// stride, padding and dilation.
#pragma once

#include <cstring>
#include <limits>
#include <utility>

#include "common/lanes.h"
#include "pool/pool_shape.h"

namespace visionops::VISIONOPS_ISA {

/// Values of a vector, as long as the widest instruction set has.
template <class C>
constexpr int64_t kPoolLanes = 64 / static_cast<int64_t>(sizeof(C));

// Elements that one pass over a row keeps in the first cache.
constexpr int64_t kPoolBlock = 512;

inline int64_t pool_round_up(int64_t count, int64_t to) { return pool_ceil_div(count, to) * to; }

inline int64_t pool_min(int64_t a, int64_t b) { return a < b ? a : b; }

inline int64_t pool_max(int64_t a, int64_t b) { return a > b ? a : b; }

/// The windows [begin, end) of an axis whose taps all lie in the image; begin == end if there are none.
struct WindowsInside {
  int64_t begin, end;

  explicit WindowsInside(const PoolAxis& axis) {
    begin = pool_min(axis.out, pool_ceil_div(axis.padding, axis.stride));
    const int64_t room = axis.in - 1 + axis.padding - (axis.kernel - 1) * axis.dilation;
    end = room < 0 ? begin : pool_max(begin, pool_min(axis.out, room / axis.stride + 1));
  }
};

/// Hands out parts of a memory, each aligned to 64 bytes; of a null memory, to learn how much is needed.
class PoolScratch {
 public:
  explicit PoolScratch(void* memory) : base_(static_cast<char*>(memory)) {}

  template <class E>
  E* take(int64_t count) {
    char* const part = base_ + bytes_;
    bytes_ += pool_round_up(count * static_cast<int64_t>(sizeof(E)), 64);
    return reinterpret_cast<E*>(part);
  }

  int64_t bytes() const { return bytes_; }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

/// Some rows of a plane, or of some channels of an image.
struct PoolItem {
  int64_t outer, channel, channels, row, end;
};

/// How the rows that a call writes are cut into items: by shape alone, so that no result depends on threads.
struct PoolCut {
  int64_t inner, down;
  int64_t channels, chunks;  // of an item, but for the last of an image; items that share a row
  int64_t rows, strips;

  /// `across` and `down` are the pixels of what is written; an item has at least so many rows.
  PoolCut(int64_t inner, int64_t across, int64_t down, int64_t least_rows) : inner(inner), down(down) {
    constexpr int64_t most_in_row = 4096, most_in_item = 8192, least_channels = 64;
    const int64_t most_channels = pool_max(least_channels, most_in_row / across / least_channels * least_channels);
    chunks = pool_max(1, pool_ceil_div(inner, most_channels));
    channels = chunks == 1 ? inner : pool_round_up(pool_ceil_div(inner, chunks), 16);
    const int64_t row = across * pool_max(1, channels);
    strips = pool_max(1, down / pool_max(least_rows, pool_ceil_div(most_in_item, row)));
    rows = pool_ceil_div(down, strips);
    strips = pool_ceil_div(down, rows);
  }

  int64_t items(int64_t outer) const { return inner == 0 ? 0 : outer * strips * chunks; }

  PoolItem item(int64_t index) const {
    const int64_t chunk = index % chunks, strip = index / chunks % strips;
    return {index / chunks / strips, chunk * channels, pool_min(channels, inner - chunk * channels), strip * rows,
            pool_min(down, (strip + 1) * rows)};
  }
};

/// Of two vectors of pairs, the values that come first in them or those that come second.
template <int second, class Vector, int... k>
VISIONOPS_INLINE Vector dealt(const Vector& a, const Vector& b, std::integer_sequence<int, k...>) {
  const decltype(a < b) order = {(2 * k + second)...};
  return __builtin_shuffle(a, b, order);
}

/// Deals pairs of values: the first ones to `even`, the second ones to `odd`.
template <class C>
inline void deal(const C* pairs, int64_t count, C* even, C* odd) {
  constexpr int lanes = kLanes<C>;
  constexpr std::make_integer_sequence<int, lanes> each;
  for (int64_t i = 0; i < count; i += lanes) {
    const int n = count - i < lanes ? static_cast<int>(count - i) : lanes;
    const Lanes<C> a = load(pairs + 2 * i, 2 * n);
    const Lanes<C> b = 2 * n > lanes ? load(pairs + 2 * i + lanes, 2 * n - lanes) : Lanes<C>{};
    store(even + i, dealt<0>(a, b, each), n);
    store(odd + i, dealt<1>(a, b, each), n);
  }
}

/// Some rows of pixels with `pitch` channels each, dealt into phases.
template <class C>
class PoolPhases {
 public:
  PoolPhases(const PoolAxis& x, int64_t pitch, PoolScratch& scratch, int64_t rows = 1)
      : x_(x), pitch_(pitch), rows_(rows) {
    int64_t a = x.stride, b = x.dilation;
    while (b != 0) {
      const int64_t rest = a % b;
      a = b;
      b = rest;
    }
    // Taps whose numbers differ by this stand in one phase.
    period_ = x.stride / a;
    count_ = pool_min(period_, x.kernel);
    length_ = x.out + (x.kernel - 1) * x.dilation / x.stride;
    // The last vector of the last tap may reach beyond.
    size_ = pool_round_up(length_ * pitch, kPoolLanes<C>) + kPoolLanes<C>;
    parts_ = scratch.take<Part>(count_);
    taps_ = scratch.take<int64_t>(x.kernel);
    data_ = scratch.take<C>(rows * count_ * size_);
  }

  /// Once the memory is there: where everything lies, and the padding's value.
  void prepare(C value) {
    for (int64_t phase = 0; phase < count_; ++phase) {
      const int64_t shift = phase * x_.dilation % x_.stride - x_.padding;  // of the phase's first pixel
      const int64_t begin = shift < 0 ? pool_ceil_div(-shift, x_.stride) : 0;
      const int64_t end = x_.in > shift ? pool_min(length_, pool_ceil_div(x_.in - shift, x_.stride)) : 0;
      parts_[phase] = {begin * x_.stride + shift, begin, pool_max(0, end - begin)};
    }
    for (int64_t t = 0; t < x_.kernel; ++t) taps_[t] = t % period_ * size_ + t * x_.dilation / x_.stride * pitch_;
    for (int64_t i = 0; i < rows_ * count_ * size_; ++i) data_[i] = value;
  }

  /// What the windows' taps t are, one beside the other.
  C* tap(int64_t t) const { return data_ + taps_[t]; }

  /// The same of a row, for all taps.
  void taps(int64_t slot, const C** rows) const {
    const C* const data = data_ + slot * count_ * size_;
    for (int64_t t = 0; t < x_.kernel; ++t) rows[t] = data + taps_[t];
  }

  /// Deals a row of pixels `step` values apart; what lies in the padding stays. Not inline, for what calls it is
  /// compiled for each type of image.
  [[gnu::noinline]] void load(const C* row, int64_t step, int64_t channels, int64_t slot = 0) {
    C* const data = data_ + slot * count_ * size_;
    if (x_.stride == 2 && count_ == 2 && pitch_ == 1 && step == 1) return load_pairs(row, data);
    for (int64_t phase = 0; phase < count_; ++phase) {
      const Part& part = parts_[phase];
      const C* const from = row + part.pixel * step;
      C* const to = data + phase * size_ + part.begin * pitch_;
      if (x_.stride == 1 && step == pitch_) {
        memcpy(to, from, part.count * pitch_ * sizeof(C));
      } else if (pitch_ > 1 || step > 1) {
        for (int64_t q = 0; q < part.count; ++q) {
          memcpy(to + q * pitch_, from + q * x_.stride * step, channels * sizeof(C));
        }
      } else {
        for (int64_t q = 0; q < part.count; ++q) to[q] = from[q * x_.stride];
      }
    }
  }

 private:
  struct Part {
    int64_t pixel, begin, count;  // of the image, and where in the phase it stands; pixels of the image in the phase
  };

  /// The two phases of stride 2 in one pass: the even pixels to that of pixel 0, the odd ones to the other.
  void load_pairs(const C* row, C* data) {
    const int64_t first = parts_[0].pixel;
    const Part &even_part = parts_[first], &odd_part = parts_[1 - first];
    C* const even = data + first * size_ + even_part.begin;
    C* const odd = data + (1 - first) * size_ + odd_part.begin;
    const int64_t pairs = pool_min(even_part.count, odd_part.count);
    deal(row, pairs, even, odd);
    for (int64_t q = pairs; q < even_part.count; ++q) even[q] = row[2 * q];
    for (int64_t q = pairs; q < odd_part.count; ++q) odd[q] = row[2 * q + 1];
  }

  PoolAxis x_;
  int64_t pitch_, rows_, period_, count_, length_, size_;
  Part* parts_;
  int64_t* taps_;
  C* data_;
};

/// Pixels of a row in the type they compute in: as they lie, or for 16-bit types widened, `step` values apart.
template <class C>
struct PoolPixels {
  const C* row;
  int64_t step;
};

template <class T>
inline PoolPixels<Compute<T>> as_compute(const T* row, int64_t pixels, int64_t inner, int64_t channels, int64_t pitch,
                                         Compute<T>* wide) {
  if constexpr (std::is_same_v<T, Compute<T>>) {
    return {row, inner};
  } else {
    if (channels == inner) {
      widen(row, wide, pixels * inner);
      return {wide, inner};
    }
    for (int64_t i = 0; i < pixels; ++i) widen(row + i * inner, wide + i * pitch, channels);
    return {wide, pitch};
  }
}

/// Pixels of a row with the channels of an item, one beside the other: where they lie if they do, else at `to`.
template <class T>
inline const Compute<T>* dense_row(const T* row, int64_t pixels, int64_t inner, int64_t channels, Compute<T>* to) {
  if constexpr (std::is_same_v<T, Compute<T>>) {
    if (channels == inner) return row;
  }
  const int64_t runs = channels == inner ? 1 : pixels, run = channels == inner ? pixels * inner : channels;
  for (int64_t i = 0; i < runs; ++i) {
    if constexpr (std::is_same_v<T, Compute<T>>) {
      memcpy(to + i * run, row + i * inner, run * sizeof(T));
    } else {
      widen(row + i * inner, to + i * run, run);
    }
  }
  return to;
}

/// Copies or narrows values. Not inline: it is called in many places, with rows.
template <class C, class T>
[[gnu::noinline]] void pool_convert(const C* from, T* to, int64_t count) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
    narrow(from, to, count);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(from[i]);
  }
}

/// Writes a row whose pixels have `pitch` values to where they have `inner` and an item some of them.
template <class C, class T>
inline void pool_store(const C* from, int64_t pixels, int64_t inner, int64_t channels, int64_t pitch, T* to) {
  if (channels == inner) {
    pool_convert(from, to, pixels * inner);
  } else {
    for (int64_t i = 0; i < pixels; ++i) pool_convert(from + i * pitch, to + i * inner, channels);
  }
}

}  // namespace visionops::VISIONOPS_ISA
