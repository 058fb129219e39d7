// Convolution as a matrix product whose left or right factor is read from the image: forward, transposed, by weight.
#pragma once

#include "common/activation.h"
#include "common/dtype.h"

namespace visionops {

/// One side of a sliding window: position p and tap t meet the pixel first + p step + t tap_step, if it exists.
struct Axis {
  int64_t positions, size;  // windows along this side, and pixels of the image
  int64_t first, step;
  int64_t taps, tap_step;             // tap_step may be negative
  int64_t weight_first, weight_step;  // tap t has the weight at weight_first + t weight_step along the kernel's side
  int64_t out_first, out_step;        // position p is pixel out_first + p out_step of the result
  // Pixels are so far apart, with zeros between them: only where depthwise planes say that they take it.
  int64_t apart = 1;

  /// Whether position p meets pixel p and no other.
  bool is_pixels() const { return taps == 1 && first == 0 && step == 1 && positions == size; }
};

namespace VISIONOPS_ISA {

/// Where a position lies when those of all images are numbered by row and column.
struct Position {
  int64_t image, y, x;

  Position(const Axis& down, const Axis& right, int64_t number)
      : image(number / (down.positions * right.positions)),
        y(number / right.positions % down.positions),
        x(number % right.positions) {}

  /// Goes on to the next one: cheaper than three divisions.
  void advance(const Axis& down, const Axis& right) {
    if (++x < right.positions) return;
    x = 0;
    if (++y < down.positions) return;
    y = 0;
    ++image;
  }
};

}  // namespace VISIONOPS_ISA

/// How many values lie between neighbours of a weight in each of its dimensions.
struct WeightStrides {
  int64_t group, out_channel, in_channel, row, column;
};

struct ConvolutionProblem {
  DType dtype;         // floating, of all tensors
  const void* image;   // (batch, groups * in_channels, y.size, x.size)
  const void* weight;  // by its strides
  const void* bias;    // (groups * out_channels) or null
  void* out;           // (batch, groups * out_channels, out_height, out_width); aliases nothing
  int64_t batch, groups, in_channels, out_channels;  // channels of a group
  int64_t out_height, out_width;
  bool channels_last;  // image and out lie in memory as (batch, height, width, channels)
  Axis y, x;
  WeightStrides weight_strides;
  Activation activation;
};

/// Bytes of scratch for one call, aligned to 64, whatever the problem: less than a megabyte.
using ConvolutionScratchBytes = int64_t();
VISIONOPS_KERNEL(ConvolutionScratchBytes, convolution_scratch_bytes)

/// Work items: register tiles of the result, of about the same cost.
using ConvolutionItems = int64_t(const ConvolutionProblem& problem);
VISIONOPS_KERNEL(ConvolutionItems, convolution_items)

/// Writes the items [begin, end) of out: activation(sum over taps and channels + bias). The order of a sum depends on
/// the problem alone.
using Convolution = void(const ConvolutionProblem& problem, void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(Convolution, convolution)

/// The gradient of a convolution by its weight. Of `problem`, out is what comes in, the gradient by the result, and
/// weight, bias and activation do not matter; grad_weight has the strides of weight and all of it is written.
using ConvolutionWeightItems = int64_t(const ConvolutionProblem& problem);
VISIONOPS_KERNEL(ConvolutionWeightItems, convolution_weight_items)

using ConvolutionWeight = void(const ConvolutionProblem& problem, void* grad_weight, void* scratch, int64_t begin,
                               int64_t end);
VISIONOPS_KERNEL(ConvolutionWeight, convolution_weight)

/// out[i] = the sum of parts (parts, count) over its first dimension, in order: of dtype, float32 or float64.
using SumParts = void(const void* parts_of, DType dtype, int64_t parts, int64_t count, void* out);
VISIONOPS_KERNEL(SumParts, sum_parts)

}  // namespace visionops
