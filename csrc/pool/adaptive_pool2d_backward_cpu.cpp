// The gradient of averages of bins on the CPU: quotients summed down the bins that hold a row, then along it.
#include "pool/turned_planes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

PoolCut cut_of(const AdaptiveShape& shape) { return {shape.inner, shape.x.in, shape.y.in, 1}; }

template <class T>
void fill_planes(const AdaptiveShape& shape, const T* grad, T* grad_input, int64_t begin, int64_t end) {
  const int64_t pixels = shape.y.in * shape.x.in;
  for (int64_t plane = begin; plane < end; ++plane) {
    const T value = from_compute<T>(to_compute(grad[plane]) / static_cast<Compute<T>>(pixels));
    T* const to = grad_input + plane * pixels;
    for (int64_t i = 0; i < pixels; ++i) to[i] = value;
  }
}

/// The gradient of averages: rows of one set of bins are equal.
template <class C>
class Spread {
 public:
  Spread(const AdaptiveShape& shape, const PoolCut& cut, PoolScratch& scratch)
      : shape_(shape),
        holders_(scratch.take<AdaptiveBins>(shape.x.in)),
        widths_(scratch.take<C>(shape.x.out)),
        wide_(scratch.take<C>(shape.x.out * cut.channels)),
        quotients_(scratch.take<C>(shape.x.out * cut.channels)),
        row_(scratch.take<C>(shape.x.in * cut.channels)) {}

  /// Once the memory is there.
  void prepare() {
    for (int64_t x = 0; x < shape_.x.in; ++x) holders_[x] = AdaptiveBins(shape_.x, x);
    for (int64_t q = 0; q < shape_.x.out; ++q) {
      const AdaptiveBin columns(shape_.x, q);
      widths_[q] = static_cast<C>(columns.end - columns.begin);
    }
  }

  template <class T>
  void run(const PoolItem& item, const T* grad, T* grad_input) {
    int64_t held_begin = -1, held_end = -1;
    for (int64_t y = item.row; y < item.end; ++y) {
      const AdaptiveBins bins(shape_.y, y);
      if (bins.begin != held_begin || bins.end != held_end) {
        add_quotients(item, grad, bins);
        spread(item.channels);
        held_begin = bins.begin;
        held_end = bins.end;
      }
      const int64_t place = (item.outer * shape_.y.in + y) * shape_.x.in * shape_.inner + item.channel;
      pool_store(row_, shape_.x.in, shape_.inner, item.channels, item.channels, grad_input + place);
    }
  }

 private:
  template <class T>
  void add_quotients(const PoolItem& item, const T* grad, const AdaptiveBins& bins) {
    const int64_t channels = item.channels;
    for (int64_t i = 0; i < shape_.x.out * channels; ++i) quotients_[i] = 0;
    for (int64_t p = bins.begin; p < bins.end; ++p) {
      const AdaptiveBin rows(shape_.y, p);
      const T* const from = grad + (item.outer * shape_.y.out + p) * shape_.x.out * shape_.inner + item.channel;
      const C* const values = dense_row(from, shape_.x.out, shape_.inner, channels, wide_);
      const auto height = static_cast<C>(rows.end - rows.begin);
      for (int64_t q = 0; q < shape_.x.out; ++q) {
        const C count = height * widths_[q];
        for (int64_t i = q * channels; i < (q + 1) * channels; ++i) quotients_[i] += values[i] / count;
      }
    }
  }

  void spread(int64_t channels) {
    for (int64_t x = 0; x < shape_.x.in; ++x) {
      C* const __restrict to = row_ + x * channels;
      for (int64_t i = 0; i < channels; ++i) to[i] = 0;
      const AdaptiveBins bins = holders_[x];
      for (int64_t q = bins.begin; q < bins.end; ++q) {
        const C* const __restrict from = quotients_ + q * channels;
        for (int64_t i = 0; i < channels; ++i) to[i] += from[i];
      }
    }
  }

  const AdaptiveShape shape_;
  AdaptiveBins* holders_;  // by column, the bins that hold it
  C* widths_;              // of bins
  C* wide_;
  C* quotients_;
  C* row_;
};

/// Of small planes, an item being a group of them.
template <class C>
class TurnedSpread {
 public:
  TurnedSpread(const AdaptiveShape& shape, PoolScratch& scratch)
      : cut_(cut_of(turned(shape))),
        planes_(shape.outer, shape.y.out * shape.x.out, shape.y.in * shape.x.in, scratch),
        spread_(turned(shape), cut_, scratch) {}

  PoolWork work(const PoolScratch& scratch) const { return planes_.work(scratch); }

  template <class T>
  void run(const T* grad, T* grad_input, int64_t begin, int64_t end) {
    spread_.prepare();
    for (int64_t group = begin; group < end; ++group) {
      planes_.run(group, grad, grad_input, [&](const C* from, C* to) {
        for (int64_t index = 0; index < cut_.items(1); ++index) spread_.run(cut_.item(index), from, to);
      });
    }
  }

 private:
  PoolCut cut_;
  TurnedPlanes<C> planes_;
  Spread<C> spread_;
};

}  // namespace

PoolWork adaptive_avg_pool2d_backward_work(const AdaptiveShape& shape) {
  const PoolCut cut = cut_of(shape);
  if (is_plane(shape)) return {shape.outer, shape.y.in * shape.x.in, 0};
  PoolWork work = {cut.items(shape.outer), cut.rows * shape.x.in * cut.channels, 0};
  visit_floating(shape.dtype, [&](auto tag) {
    using C = Compute<typename decltype(tag)::type>;
    PoolScratch scratch(nullptr);
    if (turns_planes(shape)) {
      const TurnedSpread<C> planes(shape, scratch);
      work = planes.work(scratch);
    } else {
      Spread<C>(shape, cut, scratch);
      work.scratch_bytes = scratch.bytes();
    }
  });
  return work;
}

void adaptive_avg_pool2d_backward(const AdaptiveShape& shape, const void* grad, void* grad_input, void* scratch,
                                  int64_t begin, int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* const from = static_cast<const T*>(grad);
    auto* const to = static_cast<T*>(grad_input);
    if (is_plane(shape)) return fill_planes(shape, from, to, begin, end);
    PoolScratch parts(scratch);
    if (turns_planes(shape)) return TurnedSpread<Compute<T>>(shape, parts).run(from, to, begin, end);
    const PoolCut cut = cut_of(shape);
    Spread<Compute<T>> spread(shape, cut, parts);
    spread.prepare();
    for (int64_t index = begin; index < end; ++index) spread.run(cut.item(index), from, to);
  });
}

}  // namespace visionops::VISIONOPS_ISA
