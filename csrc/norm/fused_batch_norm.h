// Batch norm with what follows it: activation((input - mean) / sqrt(var + eps) * weight + bias + residual).
//
// A training call is three steps over a whole image or, where a channel lies together and fits into a core's cache,
// over a few channels at a time: moments of items, their merger into statistics and coefficients, the output. Sums run
// in a fixed order whatever the ranges, and a channel's mean and squares are taken around a value near them.
#pragma once

#include "common/activation.h"
#include "common/dtype.h"

namespace visionops {

/// The most columns of a row of few channels, and of many, those that are summed at a time.
constexpr int64_t kBatchNormColumns = 256;

struct BatchNormProblem {
  const void* input;     // a dense image, in memory (B, H, W, C) if channels_last, else (B, C, H, W); null where unread
  const void* residual;  // laid out as input, or null
  DType dtype;           // of both, floating
  int64_t batch, channels, pixels;  // none of them 0
  bool channels_last;
  int64_t group;  // channels that take every step before the next ones do, unless channels_last
  Activation activation;
};

/// What is known of each channel: (C,) arrays.
struct BatchNormChannels {
  const double* weight;  // or null, for 1
  const double* bias;    // or null, for 0
  const double* mean;
  const double* var;  // biased
  double eps;
};

/// With channels last, rows of an image: some pixels each, so that few channels still fill vectors; the last one may be
/// shorter.
struct BatchNormRows {
  int64_t pixels;   // of a row
  int64_t columns;  // of a row: its pixels' channels
  int64_t count;
};

inline BatchNormRows batch_norm_rows(int64_t pixels, int64_t channels) {
  const int64_t of_row = channels > 0 && channels < kBatchNormColumns ? kBatchNormColumns / channels : 1;
  return {of_row, of_row * channels, (pixels + of_row - 1) / of_row};
}

/// How an image is cut into items and its coefficients are laid out.
struct BatchNormPlan {
  int64_t items;              // of work
  int64_t items_per_channel;  // items [k i, k j) are those of channels [i, j), a group; 0 if channels_last
  int64_t moments;            // pairs of doubles that the items fill
  int64_t coefficients;       // of one kind
  int64_t bit_bytes;          // of one bit an element, rows padded to whole bytes
};
using BatchNormPlanOf = BatchNormPlan(const BatchNormProblem& problem);
VISIONOPS_KERNEL(BatchNormPlanOf, batch_norm_plan)

/// Writes the moments of items [begin, end): means of each channel in each item, then sums of squared deviations.
using BatchNormMoments = void(const BatchNormProblem& problem, double* moments, int64_t begin, int64_t end);
VISIONOPS_KERNEL(BatchNormMoments, batch_norm_moments)

/// Merges all moments of channels [begin, end) into mean and biased var, both (C,).
using BatchNormStatistics = void(const BatchNormProblem& problem, const double* moments, double* mean, double* var,
                                 int64_t begin, int64_t end);
VISIONOPS_KERNEL(BatchNormStatistics, batch_norm_statistics)

/// Writes the coefficients of channels [begin, end): room for 3 kinds of doubles, aligned to 64 bytes.
using BatchNormCoefficients = void(const BatchNormProblem& problem, const BatchNormChannels& channels,
                                   void* coefficients, int64_t begin, int64_t end);
VISIONOPS_KERNEL(BatchNormCoefficients, batch_norm_coefficients)

/// Writes items [begin, end) of out, laid out as input or itself the input, and, unless null, the bits of a kinked
/// activation's slope.
using FusedBatchNorm = void(const BatchNormProblem& problem, const void* coefficients, void* out, uint8_t* bits,
                            int64_t begin, int64_t end);
VISIONOPS_KERNEL(FusedBatchNorm, fused_batch_norm)

/// The gradient that arrives.
struct BatchNormGradient {
  const void* grad;     // laid out as the input, of its dtype
  const uint8_t* bits;  // of a kinked activation, as fused_batch_norm wrote them; others compute their slope anew
  bool training;        // the statistics were the batch's: they move with the input
  bool from_output;     // problem.input is the output of an invertible activation: the input is rebuilt, less its mean,
                        // and the channels' means are 0; without residual, no weight is 0
};

/// Writes the sums of items [begin, end), shaped as moments: of the gradient before the activation, then of its
/// products with the centred input. coefficients are batch_norm_coefficients'.
using BatchNormBackwardSums = void(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                                   const void* coefficients, double* sums, int64_t begin, int64_t end);
VISIONOPS_KERNEL(BatchNormBackwardSums, batch_norm_backward_sums)

/// Merges the sums of channels [begin, end) into grad_weight and grad_bias, (C,), and, in training, into two further
/// kinds of coefficients: room for 5.
using BatchNormBackwardCoefficients = void(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                                           const BatchNormChannels& channels, const double* sums, double* grad_weight,
                                           double* grad_bias, void* coefficients, int64_t begin, int64_t end);
VISIONOPS_KERNEL(BatchNormBackwardCoefficients, batch_norm_backward_coefficients)

/// Writes items [begin, end) of grad_input and, unless null, of grad_residual, both laid out as input.
using FusedBatchNormBackward = void(const BatchNormProblem& problem, const BatchNormGradient& gradient,
                                    const void* coefficients, void* grad_input, void* grad_residual, int64_t begin,
                                    int64_t end);
VISIONOPS_KERNEL(FusedBatchNormBackward, fused_batch_norm_backward)

}  // namespace visionops
