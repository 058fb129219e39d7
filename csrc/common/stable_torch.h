// The few helpers over torch's stable ABI that the glue files share.
//
// The stable ABI (target 2.10) is what makes one binary serve every torch from 2.10 on. Its `new_empty` goes through
// the dispatcher by name, which costs as much as a small kernel: empty() uses the C shim. It has no check macro that
// raises ValueError: check() throws std::invalid_argument, which becomes one.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "common/dtype.h"

namespace visionops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void check(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

/// The kernels' name of a tensor's dtype.
inline DType dtype_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double: return DType::f64;
    case ScalarType::Float: return DType::f32;
    case ScalarType::Half: return DType::f16;
    case ScalarType::BFloat16: return DType::bf16;
    case ScalarType::Byte: return DType::u8;
    case ScalarType::Char: return DType::i8;
    case ScalarType::Short: return DType::i16;
    case ScalarType::Int: return DType::i32;
    case ScalarType::Long: return DType::i64;
    case ScalarType::Bool: return DType::b8;
    default: throw std::invalid_argument("expected a floating, integer or bool tensor");
  }
}

/// torch's name of the dtype of a result over numbers of `dtype`.
inline ScalarType result_type(DType dtype) {
  switch (result_dtype(dtype)) {
    case DType::f64: return ScalarType::Double;
    case DType::f16: return ScalarType::Half;
    case DType::bf16: return ScalarType::BFloat16;
    default: return ScalarType::Float;
  }
}

/// `tensor` itself if it is contiguous, else a contiguous copy.
inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

/// A new contiguous CPU tensor. A large one is advised to use huge pages before its first write, for the first touch
/// of 4 KB pages costs more than writing them; the benchmarks' column `roof` is the share of what torch reaches so.
Tensor empty(const int64_t* sizes, int64_t dims, ScalarType dtype);

inline Tensor empty(std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return empty(sizes.begin(), static_cast<int64_t>(sizes.size()), dtype);
}

/// A new contiguous CPU tensor with the sizes of another.
inline Tensor empty_like(const Tensor& other, ScalarType dtype) {
  return empty(other.sizes().data(), other.dim(), dtype);
}

/// Whether an image (B, C, H, W) lies in memory as (B, H, W, C): dense so, and not dense as (B, C, H, W) as well.
/// visionops/_layout.py has the same rule for shapes under tracing.
inline bool is_channels_last(const Tensor& image) {
  if (image.is_contiguous()) return false;
  int64_t expected = 1;
  for (const int64_t d : {1, 3, 2, 0}) {
    if (image.size(d) == 1) continue;
    if (image.stride(d) != expected) return false;
    expected *= image.size(d);
  }
  return true;
}

/// A new CPU image (B, C, H, W), in memory as (B, H, W, C) if `channels_last`.
Tensor empty_image(int64_t batch, int64_t channels, int64_t height, int64_t width, bool channels_last,
                   ScalarType dtype);

/// `image` itself if it is dense in one of the two layouts, else a copy dense as (B, C, H, W).
inline Tensor as_dense_image(const Tensor& image) { return is_channels_last(image) ? image : as_contiguous(image); }

/// Calls body(begin, end) over [0, count), on torch's threads if there is more work than `grain` items.
template <class Body>
inline void parallel(int64_t count, int64_t grain, const Body& body) {
  // Entering torch's parallel region costs as much as a small kernel.
  if (count <= grain) {
    if (count > 0) body(int64_t{0}, count);
  } else {
    torch::stable::parallel_for(0, count, grain, body);
  }
}

}  // namespace visionops
