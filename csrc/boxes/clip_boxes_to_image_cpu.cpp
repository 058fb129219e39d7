// Boxes clamped to the image on the CPU, and the gradient of that.
#include "boxes/clip_boxes_to_image.h"

namespace visionops::VISIONOPS_ISA {
namespace {

// A fractional limit rounds down: the next integer lies outside the image.
template <class T>
T integer_limit(double limit) {
  constexpr bool is_signed = T(-1) < T(0);
  constexpr int bits = 8 * static_cast<int>(sizeof(T)) - (is_signed ? 1 : 0);
  // 2^bits is a double for every type; the largest int64 is not.
  constexpr double beyond = 2.0 * static_cast<double>(uint64_t(1) << (bits - 1));
  constexpr double lowest = is_signed ? -beyond : 0.0;
  constexpr T largest = static_cast<T>((uint64_t(1) << (bits - 1)) - 1 + (uint64_t(1) << (bits - 1)));
  if (limit >= beyond) return largest;
  if (!(limit > lowest)) return static_cast<T>(lowest);
  return static_cast<T>(__builtin_floor(limit));
}

// Both comparisons are false for a NaN, which stays.
template <class T>
T clamped(T value, T limit) {
  const T from_below = value < 0 ? T(0) : value;
  return from_below > limit ? limit : from_below;
}

template <class T>
void clip_boxes(const T* __restrict boxes, T* __restrict out, int64_t count, T right, T bottom) {
  for (int64_t i = 0; i < 4 * count; i += 2) {
    out[i] = clamped(boxes[i], right);
    out[i + 1] = clamped(boxes[i + 1], bottom);
  }
}

}  // namespace

void clip_boxes_to_image(const void* boxes, DType dtype, double height, double width, void* out, int64_t begin,
                         int64_t end) {
  visit_number(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = static_cast<const T*>(boxes) + 4 * begin;
    T* to = static_cast<T*>(out) + 4 * begin;
    if constexpr (std::is_integral_v<T>) {
      // Not by way of a floating type: an int64 may have more digits than a double.
      clip_boxes(from, to, end - begin, integer_limit<T>(width), integer_limit<T>(height));
    } else if constexpr (std::is_same_v<T, Compute<T>>) {
      clip_boxes(from, to, end - begin, static_cast<T>(width), static_cast<T>(height));
    } else {
      const float right = static_cast<float>(width), bottom = static_cast<float>(height);
      through_float<4, 4>(from, to, end - begin, [=](const float* in, float* clipped, int64_t count) {
        clip_boxes(in, clipped, count, right, bottom);
      });
    }
  });
}

void clip_boxes_to_image_backward(const void* grad, const void* boxes, DType dtype, double height, double width,
                                  void* grad_boxes, int64_t begin, int64_t end) {
  visit_floating(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    const T* __restrict from = static_cast<const T*>(boxes);
    const T* __restrict weights = static_cast<const T*>(grad);
    T* __restrict to = static_cast<T*>(grad_boxes);
    const C right = static_cast<C>(width), bottom = static_cast<C>(height);
    for (int64_t i = 4 * begin; i < 4 * end; i += 2) {
      const C x = to_compute(from[i]), y = to_compute(from[i + 1]);
      to[i] = x >= 0 && x <= right ? weights[i] : T{};
      to[i + 1] = y >= 0 && y <= bottom ? weights[i + 1] : T{};
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
