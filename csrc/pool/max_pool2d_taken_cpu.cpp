// What stands at the taps that offsets name, on the CPU: an image's elements, and their indices.
#include "pool/max_pool2d.h"
#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// y * x.in + x of a tap of window (o, q), or -1 if it is none of its taps in the image.
int64_t pixel_of(const PoolShape& shape, int64_t o, int64_t q, int64_t tap) {
  const PoolAxis &y = shape.y, &x = shape.x;
  if (tap < 0 || tap >= y.kernel * x.kernel) return -1;
  const int64_t in_y = o * y.stride - y.padding + tap / x.kernel * y.dilation;
  const int64_t in_x = q * x.stride - x.padding + tap % x.kernel * x.dilation;
  return in_y >= 0 && in_y < y.in && in_x >= 0 && in_x < x.in ? in_y * x.in + in_x : -1;
}

/// Calls f(place in the result, pixel or -1, outer, channel) for each window of rows [begin, end).
template <class O, class F>
void visit_taps(const PoolShape& shape, const void* offsets, int64_t begin, int64_t end, F&& f) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t outer = row / shape.y.out, o = row % shape.y.out;
    for (int64_t q = 0; q < shape.x.out; ++q) {
      for (int64_t channel = 0; channel < shape.inner; ++channel) {
        const int64_t place = (row * shape.x.out + q) * shape.inner + channel;
        f(place, pixel_of(shape, o, q, static_cast<const O*>(offsets)[place]), outer, channel);
      }
    }
  }
}

/// Indices from small offsets, of which a table knows the pixels: a division for each would take longer than all else.
class Indices {
 public:
  Indices(const PoolShape& shape, const uint8_t* offsets, int64_t* indices)
      : shape_(shape), inside_(shape.x), offsets_(offsets), indices_(indices) {
    const PoolAxis &y = shape.y, &x = shape.x;
    for (int64_t tap = 0; tap < y.kernel * x.kernel; ++tap) {
      pixels_[tap] = tap / x.kernel * y.dilation * x.in + tap % x.kernel * x.dilation;
    }
  }

  void write_row(int64_t row) const {
    const PoolAxis &y = shape_.y, &x = shape_.x;
    const int64_t o = row % y.out, place = row * x.out * shape_.inner;
    const int64_t first = (o * y.stride - y.padding) * x.in - x.padding;
    const PoolTaps taps(y, o);
    write_beside(o, 0, inside_.begin, place);
    if (shape_.inner == 1) {
      const int64_t q = inside_.begin;
      write(taps, {first + q * x.stride, x.stride}, inside_.end - q, place + q);
    } else {
      for (int64_t q = inside_.begin; q < inside_.end; ++q) {
        write(taps, {first + q * x.stride, 0}, shape_.inner, place + q * shape_.inner);
      }
    }
    write_beside(o, inside_.end, x.out, place);
  }

 private:
  /// The pixels at which windows begin.
  struct Starts {
    int64_t first, apart;
  };

  /// Of `count` windows whose taps across all lie inside, or of channels of one.
  void write(const PoolTaps& taps, Starts starts, int64_t count, int64_t place) const {
    const auto first = static_cast<uint32_t>(taps.begin * shape_.x.kernel);
    const auto own = static_cast<uint32_t>((taps.end - taps.begin) * shape_.x.kernel);
    const uint8_t* const __restrict from = offsets_ + place;
    int64_t* const __restrict to = indices_ + place;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t pixel = starts.first + i * starts.apart + pixels_[from[i]];
      to[i] = from[i] - first < own ? pixel : -1;
    }
  }

  /// Of windows that begin or end beside the image.
  void write_beside(int64_t o, int64_t begin, int64_t end, int64_t place) const {
    for (int64_t i = begin * shape_.inner; i < end * shape_.inner; ++i) {
      indices_[place + i] = pixel_of(shape_, o, i / shape_.inner, offsets_[place + i]);
    }
  }

  const PoolShape& shape_;
  WindowsInside inside_;
  const uint8_t* offsets_;
  int64_t* indices_;
  int64_t pixels_[256] = {};  // from the window's first tap
};

}  // namespace

void max_pool2d_taken(const PoolShape& shape, const void* input, const void* offsets, void* output, int64_t begin,
                      int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(input);
    auto* const to = static_cast<T*>(output);
    const int64_t pixels = shape.y.in * shape.x.in;
    const auto take = [&](int64_t place, int64_t pixel, int64_t outer, int64_t channel) {
      to[place] = pixel < 0 ? T{} : from[(outer * pixels + pixel) * shape.inner + channel];
    };
    has_small_offsets(shape) ? visit_taps<uint8_t>(shape, offsets, begin, end, take)
                             : visit_taps<int32_t>(shape, offsets, begin, end, take);
  });
}

void max_pool2d_indices(const PoolShape& shape, const void* offsets, int64_t* indices, int64_t begin, int64_t end) {
  if (has_small_offsets(shape)) {
    const Indices rows(shape, static_cast<const uint8_t*>(offsets), indices);
    for (int64_t row = begin; row < end; ++row) rows.write_row(row);
  } else {
    visit_taps<int32_t>(shape, offsets, begin, end,
                        [&](int64_t place, int64_t pixel, int64_t, int64_t) { indices[place] = pixel; });
  }
}

}  // namespace visionops::VISIONOPS_ISA
