// e^x without a branch or a call, so that loops over it become vector code.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by the polynomial (float) and rational function (double) of Cephes' expf and
// exp; 2^n by its bits. Within two roundings; about the smallest normal number and below it is 0. A NaN stays one.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/target.h"

namespace visionops::VISIONOPS_ISA {

namespace exponential_detail {

VISIONOPS_HD inline float of_rest(float r) {
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return (p * (r * r) + r) + 1.0f;
}

VISIONOPS_HD inline double of_rest(double r) {
  const double square = r * r;
  double p = 1.26177193074810590878e-4;
  p = p * square + 3.02994407707441961300e-2;
  p = p * square + 9.99999999999999999910e-1;
  p = p * r;
  double q = 3.00198505138664455042e-6;
  q = q * square + 2.52448340349684104192e-3;
  q = q * square + 2.27265548208155028766e-1;
  q = q * square + 2.0;
  return 1.0 + 2.0 * (p / (q - p));
}

template <class T, class Bits>
VISIONOPS_HD inline T exponential(T x, T least, T most, T to_whole, T ln2_high, T ln2_low, Bits bias, int mantissa) {
  const T raised = x < least ? least : x;
  const T inside = raised > most ? most : raised;
  // Beyond 2^mantissa a number's last bits count whole steps.
  const T shifted = inside * T(1.44269504088896340736) + to_whole;
  const T n = shifted - to_whole;
  Bits bits, zero;
  memcpy(&bits, &shifted, sizeof bits);
  memcpy(&zero, &to_whole, sizeof zero);
  const Bits power = static_cast<Bits>((bits - zero) + bias) << mantissa;
  T scale;
  memcpy(&scale, &power, sizeof scale);
  return x < least ? T(0) : of_rest((inside - n * ln2_high) - n * ln2_low) * scale;
}

}  // namespace exponential_detail

VISIONOPS_HD inline float exponential(float x) {
  return exponential_detail::exponential<float, uint32_t>(x, -87.0f, 89.0f, 0x1.8p23f, 0.693359375f, -2.12194440e-4f,
                                                          127, 23);
}

VISIONOPS_HD inline double exponential(double x) {
  return exponential_detail::exponential<double, uint64_t>(x, -708.0, 710.0, 0x1.8p52, 6.93145751953125e-1,
                                                           1.42860682030941723212e-6, 1023, 52);
}

}  // namespace visionops::VISIONOPS_ISA
