// Values to and from the pixels that indices name, on the CPU: an item is a plane, or some channels of an image.
#include "pool/max_unpool2d.h"

#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const UnpoolShape& shape) { return {shape.inner, shape.pixels, 1, 1}; }

/// Zeros the channels of an item in pixels `step` values apart.
template <class C>
void clear(C* to, int64_t pixels, int64_t step, int64_t channels) {
  if (step == channels) {
    memset(to, 0, pixels * step * sizeof(C));
  } else {
    for (int64_t i = 0; i < pixels; ++i) memset(to + i * step, 0, channels * sizeof(C));
  }
}

/// Into `image`, whose pixels are `step` values apart.
template <class T>
void send(const UnpoolShape& shape, const PoolItem& item, const T* values, const int64_t* indices, bool adds,
          Compute<T>* image, int64_t step) {
  clear(image, shape.pixels, step, item.channels);
  const int64_t first = item.outer * shape.windows * shape.inner + item.channel;
  for (int64_t i = 0; i < shape.windows; ++i) {
    for (int64_t channel = 0; channel < item.channels; ++channel) {
      const int64_t place = first + i * shape.inner + channel, index = indices[place];
      if (index < 0 || index >= shape.pixels) continue;
      auto& pixel = image[index * step + channel];
      pixel = to_compute(values[place]) + (adds ? pixel : 0);
    }
  }
}

}  // namespace

PoolWork max_unpool2d_work(const UnpoolShape& shape) {
  const PoolCut cut = cut_of(shape);
  const bool is_narrow = shape.dtype == DType::f16 || shape.dtype == DType::bf16;
  const int64_t elements = shape.pixels * cut.channels;
  return {cut.items(shape.outer), elements, is_narrow ? elements * static_cast<int64_t>(sizeof(float)) : 0};
}

void max_unpool2d(const UnpoolShape& shape, const void* values, const int64_t* indices, bool adds, void* images,
                  void* scratch, int64_t begin, int64_t end) {
  const PoolCut cut = cut_of(shape);
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(values);
    for (int64_t index = begin; index < end; ++index) {
      const PoolItem item = cut.item(index);
      T* const to = static_cast<T*>(images) + item.outer * shape.pixels * shape.inner + item.channel;
      if constexpr (std::is_same_v<T, Compute<T>>) {
        send(shape, item, from, indices, adds, to, shape.inner);
      } else {
        auto* const wide = static_cast<float*>(scratch);
        send(shape, item, from, indices, adds, wide, item.channels);
        pool_store(wide, shape.pixels, shape.inner, item.channels, item.channels, to);
      }
    }
  });
}

void max_unpool2d_taken(const UnpoolShape& shape, const void* images, const int64_t* indices, void* values,
                        int64_t begin, int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(images);
    auto* const to = static_cast<T*>(values);
    for (int64_t window = begin; window < end; ++window) {
      const int64_t first = window / shape.windows * shape.pixels;
      for (int64_t channel = 0; channel < shape.inner; ++channel) {
        const int64_t place = window * shape.inner + channel, index = indices[place];
        const bool is_inside = index >= 0 && index < shape.pixels;
        to[place] = is_inside ? from[(first + index) * shape.inner + channel] : T{};
      }
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
