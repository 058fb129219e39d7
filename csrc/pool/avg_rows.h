// What average pooling by rows shares with its gradient on the CPU: divisors of a row of windows, and how items run.
#pragma once

#include "pool/avg_pool2d.h"
#include "pool/pool_rows.h"

namespace visionops::VISIONOPS_ISA {

template <class C>
void add_row(const C* __restrict row, int64_t count, C* __restrict sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += row[i];
}

/// The divisors of the windows of a row: the taps counted across, times those down.
template <class C>
class Divisors {
 public:
  Divisors(const PoolShape& shape, const PoolDivisor& divisor, int64_t pitch, int64_t count, PoolScratch& scratch)
      : shape_(shape), divisor_(divisor), pitch_(pitch), count_(count), across_(scratch.take<C>(count)) {}

  void prepare() {
    for (int64_t i = 0; i < count_; ++i) across_[i] = 1;
    for (int64_t o = 0; o < shape_.x.out; ++o) {
      const int64_t across = divisor_.fixed != 0 ? divisor_.fixed : pool_counted(shape_.x, divisor_, o);
      for (int64_t i = 0; i < pitch_; ++i) across_[o * pitch_ + i] = static_cast<C>(across);
    }
  }

  /// Divides a row of values that belongs to window `o` down.
  void divide(C* __restrict values, int64_t o) const {
    const C down_o = down(o);
    const C* const __restrict across = across_;
    for (int64_t i = 0; i < count_; ++i) values[i] /= down_o * across[i];
  }

  C down(int64_t o) const { return static_cast<C>(divisor_.fixed != 0 ? 1 : pool_counted(shape_.y, divisor_, o)); }
  const C* across() const { return across_; }

 private:
  PoolShape shape_;
  PoolDivisor divisor_;
  int64_t pitch_, count_;
  C* across_;
};

/// The work of `Pass` by rows, where an item reads or writes so many pixels for each of its rows. A pass is compiled
/// for the type it computes in, its run(index, from, to) for the images' too.
template <template <class> class Pass>
PoolWork avg_work_of(const PoolShape& shape, int64_t pixels_in_row) {
  PoolWork work{};
  visit_floating(shape.dtype, [&](auto tag) {
    PoolScratch scratch(nullptr);
    const Pass<Compute<typename decltype(tag)::type>> pass(shape, {}, scratch);
    const PoolCut& cut = pass.cut();
    work = {cut.items(shape.outer), cut.rows * pixels_in_row * cut.channels, scratch.bytes()};
  });
  return work;
}

template <template <class> class Pass>
void avg_run_items(const PoolShape& shape, const PoolDivisor& divisor, const void* from, void* to, void* memory,
                   int64_t begin, int64_t end) {
  visit_floating(shape.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    PoolScratch scratch(memory);
    Pass<Compute<T>> pass(shape, divisor, scratch);
    pass.prepare();
    for (int64_t index = begin; index < end; ++index) pass.run(index, static_cast<const T*>(from), static_cast<T*>(to));
  });
}

}  // namespace visionops::VISIONOPS_ISA
