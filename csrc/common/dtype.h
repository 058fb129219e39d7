// Element types as kernels see them: an enum at their boundary, a C++ type inside, and the type they compute in.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/half.h"

namespace visionops {

enum class DType : int32_t { f64, f32, f16, bf16, u8, i8, i16, i32, i64, b8 };

inline bool is_floating(DType dtype) { return dtype <= DType::bf16; }

/// The dtype of a result over numbers of `dtype`: their own if floating, else the one that kernels compute in.
inline DType result_dtype(DType dtype) {
  if (is_floating(dtype)) return dtype;
  return dtype == DType::i32 || dtype == DType::i64 ? DType::f64 : DType::f32;
}

namespace VISIONOPS_ISA {

template <class T>
struct Tag {
  using type = T;
};

/// Wide types compute in double, everything up to 16 bits and float32 in float.
template <class T>
using Compute =
    std::conditional_t<std::is_same_v<T, double> || (std::is_integral_v<T> && sizeof(T) >= 4), double, float>;

/// The type of a result over boxes or scores of type T: their own if floating, else the one they compute in.
template <class T>
using Result = std::conditional_t<std::is_integral_v<T>, Compute<T>, T>;

template <class T>
VISIONOPS_HD inline Compute<T> to_compute(T value) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
    return to_float(value);
  } else {
    return static_cast<Compute<T>>(value);
  }
}

template <class T>
VISIONOPS_HD inline T from_compute(Compute<T> value) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
    T out;
    from_float(value, out);
    return out;
  } else {
    return static_cast<T>(value);
  }
}

/// A gradient of floating type T. A finite value beyond T's range becomes T's largest: narrowing makes no infinity.
template <class T, class C>
VISIONOPS_HD inline T gradient_from(C value) {
  if constexpr (std::is_same_v<T, C>) {
    return value;
  } else {
    constexpr C largest = std::is_same_v<T, f16>    ? C(65504)
                          : std::is_same_v<T, bf16> ? C(0x1.fep127)
                                                    : C(0x1.fffffep127);
    const C bounded = value > largest ? largest : value < -largest ? -largest : value;
    return from_compute<T>(static_cast<Compute<T>>(value - value == 0 ? bounded : value));
  }
}

/// Calls f(Tag<T>{}) with the floating type that `dtype` names.
template <class F>
inline void visit_floating(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64: return f(Tag<double>{});
    case DType::f16: return f(Tag<f16>{});
    case DType::bf16: return f(Tag<bf16>{});
    default: return f(Tag<float>{});
  }
}

/// Calls f(Tag<T>{}) with the floating or integer type that `dtype` names.
template <class F>
inline void visit_number(DType dtype, F&& f) {
  switch (dtype) {
    case DType::u8: return f(Tag<uint8_t>{});
    case DType::i8: return f(Tag<int8_t>{});
    case DType::i16: return f(Tag<int16_t>{});
    case DType::i32: return f(Tag<int32_t>{});
    case DType::i64: return f(Tag<int64_t>{});
    default: return visit_floating(dtype, f);
  }
}

}  // namespace VISIONOPS_ISA
}  // namespace visionops
