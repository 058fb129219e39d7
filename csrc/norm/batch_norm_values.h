// What batch norm does with runs of elements: it loads and stores them and applies coefficients and activation.
#pragma once

#include <algorithm>
#include <cstring>

#include "common/lanes.h"
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

/// Repeats coefficients of channels [begin, end) over all columns that have them.
template <class C>
inline void spread(C* array, const Walk& walk, int64_t begin, int64_t end) {
  const int64_t channels = walk.problem.channels, columns = walk.columns * walk.rows_at_once;
  for (int64_t c = channels; c < columns; c += channels) std::copy(array + begin, array + end, array + c + begin);
}

// What follows is compiled once for float and once for double, whatever the type of the elements: hence no inlining.

template <int kStep, class C>
[[gnu::noinline]] void scaled(const C* __restrict x, const C* __restrict residual, const Coefficients<C>& by,
                              Bounds<C> bounds, int64_t n, C* __restrict z) {
  const C* __restrict centre = by.centre, * __restrict scale = by.scale, * __restrict shift = by.shift;
  if (residual != nullptr) {
    for (int64_t i = 0; i < n; ++i) {
      const C value = (x[i] - centre[kStep * i]) * scale[kStep * i] + shift[kStep * i] + residual[i];
      z[i] = within(value, bounds.low, bounds.high);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      const C value = (x[i] - centre[kStep * i]) * scale[kStep * i] + shift[kStep * i];
      z[i] = within(value, bounds.low, bounds.high);
    }
  }
}

/// The same of 16-bit elements, which are widened and narrowed in registers.
template <int kStep, class T>
[[gnu::noinline]] void scaled_narrow(const T* x, const T* residual, const Coefficients<float>& by, Bounds<float> bounds,
                                     int64_t n, T* z) {
  using Vector = Lanes<float>;
  const Vector low = all_lanes(bounds.low), high = all_lanes(bounds.high);
  const Coefficients<float> from = by;
  const Vector centre = all_lanes(*from.centre), scale = all_lanes(*from.scale), shift = all_lanes(*from.shift);
  const auto write = [&](int64_t i, int some) __attribute__((always_inline)) {
    const auto of = [&](const float* values, const Vector& all) { return kStep == 0 ? all : load(values + i, some); };
    Vector value = (load(x + i, some) - of(from.centre, centre)) * of(from.scale, scale) + of(from.shift, shift);
    if (residual != nullptr) value += load(residual + i, some);
    value = value < low ? low : value;
    store_narrow(z + i, value > high ? high : value, some);
  };
  int64_t i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) write(i, kLanes<float>);
  if (i < n) write(i, static_cast<int>(n - i));
}

/// Applies an activation that has more than bounds.
template <class C>
[[gnu::noinline]] void activate(Activation activation, int64_t n, C* z) {
  visit_activation(activation, [&](auto tag) {
    constexpr Activation a = decltype(tag)::activation;
    if constexpr (!is_bounds(a)) {
      for (int64_t i = 0; i < n; ++i) z[i] = activated<a>(z[i]);
    }
  });
}

/// z = activation((x - centre) * scale + shift + residual), the residual unless null; with a column of coefficients for
/// each element or with one for all.
template <class C>
inline void normalised(Activation activation, bool by_columns, const C* x, const C* residual, const Coefficients<C>& by,
                       int64_t n, C* z) {
  const Bounds<C> bounds(activation);
  by_columns ? scaled<1>(x, residual, by, bounds, n, z) : scaled<0>(x, residual, by, bounds, n, z);
  if (!is_bounds(activation)) activate(activation, n, z);
}

/// out = grad times the slope at z of an activation that is not kinked.
template <class C>
[[gnu::noinline]] void times_slope(Activation activation, const C* __restrict z, const C* __restrict grad, int64_t n,
                                   C* __restrict out) {
  visit_activation(activation, [&](auto tag) {
    constexpr Activation a = decltype(tag)::activation;
    if constexpr (!is_bounds(a) && !is_kinked(a)) {
      for (int64_t i = 0; i < n; ++i) out[i] = grad[i] * slope<a>(z[i]);
    }
  });
}

template <int kStep, class C>
[[gnu::noinline]] void unscaled(const C* __restrict z, C below_zero, const Coefficients<C>& by, int64_t n,
                                C* __restrict x) {
  const C* __restrict scale = by.scale, * __restrict shift = by.shift;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = ((z[i] < 0 ? z[i] * below_zero : z[i]) - shift[kStep * i]) / scale[kStep * i];
  }
}

/// The input less its mean, from z = activation(its normalised values), which overwrote it, the activation being none
/// or leaky_relu; shift is the bias, for the mean is taken as 0.
template <class C>
void rebuilt(Activation activation, bool by_columns, const C* z, const Coefficients<C>& by, int64_t n, C* x) {
  const C below_zero = activation == Activation::leaky_relu ? 100 : 1;
  by_columns ? unscaled<1>(z, below_zero, by, n, x) : unscaled<0>(z, below_zero, by, n, x);
}

/// out = the gradient of the input; x may be null where statistics were not the batch's.
template <int kStep, class C>
[[gnu::noinline]] void backward_of_scaled(const C* __restrict inner, const C* __restrict x, bool training,
                                          const Coefficients<C>& by, int64_t n, C* __restrict out) {
  const C* __restrict centre = by.centre, * __restrict scale = by.scale;
  const C* __restrict response = by.response, * __restrict constant = by.constant;
  if (training) {
    for (int64_t i = 0; i < n; ++i) {
      out[i] = inner[i] * scale[kStep * i] + ((x[i] - centre[kStep * i]) * response[kStep * i] + constant[kStep * i]);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = inner[i] * scale[kStep * i];
  }
}

}  // namespace visionops::VISIONOPS_ISA
