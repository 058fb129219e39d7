// Areas of boxes on the CPU, and their gradient.
#include "boxes/box_area.h"

#include "common/box.h"

namespace visionops::VISIONOPS_ISA {
namespace {

template <class T>
Box<Compute<T>> load_box(const T* box) {
  return {to_compute(box[0]), to_compute(box[1]), to_compute(box[2]), to_compute(box[3])};
}

template <class T>
void areas(const T* __restrict boxes, Result<T>* __restrict out, int64_t count, Compute<T> offset) {
  for (int64_t i = 0; i < count; ++i) out[i] = area(load_box(boxes + 4 * i), offset);
}

// An infinite side has no derivative to give.
template <class C>
C finite_or_zero(C value) {
  return value - value == 0 ? value : C(0);
}

}  // namespace

void box_area(const void* boxes, DType dtype, int pixel_offset, void* out, int64_t begin, int64_t end) {
  visit_number(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = static_cast<const T*>(boxes) + 4 * begin;
    Result<T>* to = static_cast<Result<T>*>(out) + begin;
    const auto offset = static_cast<Compute<T>>(pixel_offset);
    if constexpr (std::is_same_v<Result<T>, Compute<T>>) {
      areas(from, to, end - begin, offset);
    } else {
      through_float<4, 1>(from, to, end - begin,
                          [=](const float* in, float* result, int64_t count) { areas(in, result, count, offset); });
    }
  });
}

void box_area_backward(const void* grad, const void* boxes, DType dtype, int pixel_offset, void* grad_boxes,
                       int64_t begin, int64_t end) {
  visit_floating(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    const T* __restrict from = static_cast<const T*>(boxes);
    const T* __restrict weights = static_cast<const T*>(grad);
    T* __restrict to = static_cast<T*>(grad_boxes);
    const C offset = static_cast<C>(pixel_offset);
    for (int64_t i = begin; i < end; ++i) {
      const Box<C> box = load_box(from + 4 * i);
      const C weight = to_compute(weights[i]);
      const C by_width = weight * finite_or_zero(side(box.y1, box.y2, offset));
      const C by_height = weight * finite_or_zero(side(box.x1, box.x2, offset));
      // As torch.clamp(min=0) does, a length of exactly 0 passes its gradient.
      const C dx = (box.x2 - box.x1) + offset >= 0 ? by_width : C(0);
      const C dy = (box.y2 - box.y1) + offset >= 0 ? by_height : C(0);
      to[4 * i] = gradient_from<T>(-dx);
      to[4 * i + 1] = gradient_from<T>(-dy);
      to[4 * i + 2] = gradient_from<T>(dx);
      to[4 * i + 3] = gradient_from<T>(dy);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
