// The gradient of a depthwise convolution by its weight on the CPU, where channels come first: sums over planes.
#include "conv/depthwise.h"
#include "conv/depthwise_strip.h"
#include "conv/factors.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Bits of the first `count` lanes.
template <class C>
Vector<Lane<C>> first_lanes(int64_t count) {
  Lane<C> numbers[kVector<C>];
  for (int lane = 0; lane < kVector<C>; ++lane) numbers[lane] = lane;
  Vector<Lane<C>> order;
  memcpy(&order, numbers, sizeof order);
  return order < static_cast<Lane<C>>(count < kVector<C> ? count : kVector<C>);
}

/// Adds to sums (9) the products of kRows rows of gradients, `width` apart, with what their 3x3 windows meet. Beyond
/// `count` gradients a row has zeros, which what is met there, perhaps infinite, may not be multiplied with.
template <int kRows, int kStep, class C>
void add_nine_products(const C* corner, int64_t line, const int64_t* columns, const C* grad, int64_t width,
                       int64_t count, Vector<C>* to) {
  constexpr int kLines = (kRows - 1) * kStep + 3;
  const int64_t taps[] = {columns[0], columns[1], columns[2]};
  Vector<C> sums[9];
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; ++tap) sums[tap] = to[tap];
  for (int64_t at = 0; at < count; at += kVector<C>) {
    const Vector<Lane<C>> bits = first_lanes<C>(count - at);
    Vector<C> grads[kRows];
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) grads[row] = load(grad + row * width + at);
#pragma GCC unroll 9
    for (int l = 0; l < kLines; ++l) {
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        const auto met = (Vector<C>)((Vector<Lane<C>>)load(corner + l * line + taps[j] + at) & bits);
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) {
          const int i = l - row * kStep;
          if (i >= 0 && i < 3) sums[i * 3 + j] += met * grads[row];
        }
      }
    }
  }
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; ++tap) to[tap] = sums[tap];
}

/// The same for one tap of any window: `corner` is what it meets first.
template <class C>
void add_products(const C* corner, const C* grad, int64_t count, Vector<C>* to) {
  Vector<C> sum = *to;
  for (int64_t at = 0; at < count; at += kVector<C>) {
    const Vector<Lane<C>> bits = first_lanes<C>(count - at);
    sum += (Vector<C>)((Vector<Lane<C>>)load(corner + at) & bits) * load(grad + at);
  }
  *to = sum;
}

/// Adds the products of `count` rows of gradients, in the strip's `beside`.
template <class C>
void add_strip(const Strip<C>& strip, int64_t count, Vector<C>* sums) {
  constexpr int kRows = 4;
  const Axis &y = strip.y, &x = strip.x;
  const bool nine = y.taps == 3 && x.taps == 3 && y.tap_step == 1 && y.step <= 2;
  for (int64_t row = 0; row < count;) {
    const C *corner = strip.corner(row), *grad = strip.beside + row * strip.width;
    if (nine) {
      const bool shared = row + kRows <= count;
      const auto add = !shared       ? add_nine_products<1, 1, C>
                       : y.step == 1 ? add_nine_products<kRows, 1, C>
                                     : add_nine_products<kRows, 2, C>;
      add(corner, strip.line, strip.columns, grad, strip.width, x.positions, sums);
      row += shared ? kRows : 1;
      continue;
    }
    for (int64_t i = 0; i < y.taps; ++i) {
      for (int64_t j = 0; j < x.taps; ++j) {
        const C* met = corner + i * y.tap_step * strip.line + strip.columns[j];
        add_products(met, grad, x.positions, sums + i * x.taps + j);
      }
    }
    ++row;
  }
}

/// The strip of a problem, behind a vector of sums for each tap.
template <class C>
Strip<C> strip_of(const ConvolutionProblem& p, void* scratch) {
  const int64_t sums = p.y.taps * p.x.taps * kVectorBytes;
  return Strip<C>(p, static_cast<char*>(scratch) + sums, product_scratch_bytes<C>() - sums);
}

template <class T>
void weight_of_channel(const ConvolutionProblem& p, int64_t channel, void* scratch, T* grad_weight) {
  using C = Compute<T>;
  const Strip<C> strip = strip_of<C>(p, scratch);
  const int64_t taps = p.y.taps * p.x.taps, size = p.y.size * p.x.size, results = p.y.positions * p.x.positions;
  const T *image = static_cast<const T*>(p.image), *image_end = image + p.batch * p.groups * size;
  const T *grad = static_cast<const T*>(p.out), *grad_end = grad + p.batch * p.groups * results;
  auto* sums = static_cast<Vector<C>*>(scratch);
  const LineMap map = {0, 1, p.x.positions, 0, 1, strip.width};
  strip.find_columns();
  for (int64_t tap = 0; tap < taps; ++tap) sums[tap] = Vector<C>{};
  for (int64_t plane = channel; plane < p.batch * p.groups; plane += p.groups) {
    for (int64_t row = 0; row < p.y.positions; row += strip.rows) {
      const int64_t count = p.y.positions - row < strip.rows ? p.y.positions - row : strip.rows;
      strip.fill(image + plane * size, image_end, row, count);
      for (int64_t r = 0; r < count; ++r) {
        const T* from = grad + plane * results + (row + r) * p.x.positions;
        lay_out(map, from, grad_end - from >= strip.width, strip.beside + r * strip.width);
      }
      add_strip(strip, count, sums);
    }
  }
  const WeightStrides& s = p.weight_strides;
  for (int64_t tap = 0; tap < taps; ++tap) {
    C sum = 0;
    for (int lane = 0; lane < kVector<C>; ++lane) sum += sums[tap][lane];
    grad_weight[channel * s.group + tap / p.x.taps * s.row + tap % p.x.taps * s.column] = from_compute<T>(sum);
  }
}

}  // namespace

bool depthwise_by_planes(const ConvolutionProblem& any) {
  const ConvolutionProblem problem = ascending(any);
  const bool wide = problem.dtype == DType::f64;
  return (wide ? strip_of<double>(problem, nullptr).rows : strip_of<float>(problem, nullptr).rows) > 0;
}

void depthwise_weight_planes(const ConvolutionProblem& problem, void* grad_weight, void* scratch, int64_t begin,
                             int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t channel = begin; channel < end; ++channel) {
      weight_of_channel<T>(problem, channel, scratch, static_cast<T*>(grad_weight));
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
