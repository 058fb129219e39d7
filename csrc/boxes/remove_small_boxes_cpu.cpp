// Indices of boxes that are not small, on the CPU: one pass that writes every index and keeps the right ones.
#include "boxes/remove_small_boxes.h"

namespace visionops::VISIONOPS_ISA {

int64_t remove_small_boxes(const void* boxes, DType dtype, int64_t count, double min_size, int64_t* indices) {
  int64_t kept = 0;
  visit_number(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    const T* box = static_cast<const T*>(boxes);
    const C least = static_cast<C>(min_size);
    for (int64_t i = 0; i < count; ++i, box += 4) {
      const C width = to_compute(box[2]) - to_compute(box[0]), height = to_compute(box[3]) - to_compute(box[1]);
      // No branch to guess wrong: an index that is not kept is overwritten by the next.
      indices[kept] = i;
      kept += static_cast<int64_t>(width >= least) & static_cast<int64_t>(height >= least);
    }
  });
  return kept;
}

}  // namespace visionops::VISIONOPS_ISA
