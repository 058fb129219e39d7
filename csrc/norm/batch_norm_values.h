// What batch norm does with runs of elements: it loads and stores them and applies a channel's coefficients.
#pragma once

#include <cstring>

#include "norm/batch_norm_walk.h"

namespace visionops::VISIONOPS_ISA {

/// n elements as they are computed with: themselves, or widened into a buffer.
template <class T>
inline const Compute<T>* loaded(const T* from, int64_t n, Compute<T>* buffer) {
  if constexpr (std::is_same_v<T, Compute<T>>) {
    return from;
  } else {
    widen(from, buffer, n);
    return buffer;
  }
}

/// Where a kernel computes n results that then lie at `to`: there itself, if they are of its type and it does not still
/// read there, else in a buffer.
template <class T>
struct Results {
  using C = Compute<T>;

  bool reads_there;

  C* place(T* to, C* buffer) const {
    if constexpr (std::is_same_v<T, C>) {
      return reads_there ? buffer : to;
    } else {
      return buffer;
    }
  }

  /// Stores n values at `to`, unless they were computed there.
  void store(const C* values, int64_t n, T* to) const {
    if constexpr (!std::is_same_v<T, C>) {
      narrow(values, to, n);
    } else if (values != to) {
      memcpy(to, values, static_cast<size_t>(n) * sizeof(T));
    }
  }
};

/// Coefficients in one array after the other: of a channel, or repeated over the columns of a row.
template <class C>
struct Coefficients {
  const C* centre;    // the mean, rounded
  const C* scale;     // weight / sqrt(var + eps)
  const C* shift;     // bias, less the scaled remainder of the mean
  const C* response;  // in training, of the gradient to the centred input
  const C* constant;  // likewise

  Coefficients(const void* memory, int64_t stride)
      : centre(static_cast<const C*>(memory)),
        scale(centre + stride),
        shift(scale + stride),
        response(shift + stride),
        constant(response + stride) {}

  Coefficients from(int64_t column) const {
    Coefficients moved = *this;
    moved.centre += column;
    moved.scale += column;
    moved.shift += column;
    moved.response += column;
    moved.constant += column;
    return moved;
  }
};

/// Writes one coefficient of a channel to every column that has it.
template <class C>
inline void spread(double value, C* array, const Walk& walk, int64_t channel) {
  const int64_t columns = walk.columns * walk.rows_at_once;
  for (int64_t c = channel; c < columns; c += walk.problem.channels) array[c] = static_cast<C>(value);
}

/// z = activation((x - centre) * scale + shift + residual), the residual unless null; kStep 1 with a column of
/// coefficients for each element, 0 with one for all.
template <Activation a, int kStep, class C>
inline void normalised(const C* __restrict x, const C* __restrict residual, const Coefficients<C>& by, int64_t n,
                       C* __restrict z) {
  const C* __restrict centre = by.centre, * __restrict scale = by.scale, * __restrict shift = by.shift;
  if (residual != nullptr) {
    for (int64_t i = 0; i < n; ++i) {
      z[i] = activated<a>((x[i] - centre[kStep * i]) * scale[kStep * i] + shift[kStep * i] + residual[i]);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      z[i] = activated<a>((x[i] - centre[kStep * i]) * scale[kStep * i] + shift[kStep * i]);
    }
  }
}

/// Whether every value of an activation tells what it is the value of.
constexpr bool is_invertible(Activation a) { return a == Activation::none || a == Activation::leaky_relu; }

template <Activation a, class C>
inline C inverse(C z) {
  return a == Activation::leaky_relu && z < 0 ? z * 100 : z;
}

/// The input less its mean, from z = activation(its normalised values), which overwrote it; shift is the bias, for the
/// mean is taken as 0.
template <Activation a, int kStep, class C>
inline void rebuilt(const C* __restrict z, const Coefficients<C>& by, int64_t n, C* __restrict x) {
  const C* __restrict scale = by.scale, * __restrict shift = by.shift;
  for (int64_t i = 0; i < n; ++i) x[i] = (inverse<a>(z[i]) - shift[kStep * i]) / scale[kStep * i];
}

}  // namespace visionops::VISIONOPS_ISA
