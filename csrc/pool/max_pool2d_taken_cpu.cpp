// What stands at the taps that offsets name, on the CPU: an image's elements, and their indices.
#include "pool/max_pool2d.h"
#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Calls f(place in the result, pixel y * x.in + x or -1, outer, channel) for each window of rows [begin, end).
template <class O, class F>
void visit_taps(const PoolShape& shape, const void* offsets, int64_t begin, int64_t end, F&& f) {
  const PoolAxis &y = shape.y, &x = shape.x;
  const int64_t taps = y.kernel * x.kernel;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t outer = row / y.out, top = row % y.out * y.stride - y.padding;
    for (int64_t q = 0; q < x.out; ++q) {
      for (int64_t channel = 0; channel < shape.inner; ++channel) {
        const int64_t place = (row * x.out + q) * shape.inner + channel;
        const auto tap = static_cast<int64_t>(static_cast<const O*>(offsets)[place]);
        const int64_t in_y = top + tap / x.kernel * y.dilation;
        const int64_t in_x = q * x.stride - x.padding + tap % x.kernel * x.dilation;
        const bool is_inside = tap >= 0 && tap < taps && in_y >= 0 && in_y < y.in && in_x >= 0 && in_x < x.in;
        f(place, is_inside ? in_y * x.in + in_x : -1, outer, channel);
      }
    }
  }
}

template <class F>
void visit_taps_of(const PoolShape& shape, const void* offsets, int64_t begin, int64_t end, F&& f) {
  if (has_small_offsets(shape)) {
    visit_taps<uint8_t>(shape, offsets, begin, end, f);
  } else {
    visit_taps<int32_t>(shape, offsets, begin, end, f);
  }
}

}  // namespace

void max_pool2d_taken(const PoolShape& shape, const void* input, const void* offsets, void* output, int64_t begin,
                      int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(input);
    auto* const to = static_cast<T*>(output);
    const int64_t pixels = shape.y.in * shape.x.in;
    visit_taps_of(shape, offsets, begin, end, [&](int64_t place, int64_t pixel, int64_t outer, int64_t channel) {
      to[place] = pixel < 0 ? T{} : from[(outer * pixels + pixel) * shape.inner + channel];
    });
  });
}

void max_pool2d_indices(const PoolShape& shape, const void* offsets, int64_t* indices, int64_t begin, int64_t end) {
  visit_taps_of(shape, offsets, begin, end,
                [&](int64_t place, int64_t pixel, int64_t, int64_t) { indices[place] = pixel; });
}

}  // namespace visionops::VISIONOPS_ISA
