// Convolution of each channel with a filter of its own, alone and with a pointwise convolution after it.
#pragma once

#include <atomic>

#include "conv/convolution.h"

namespace visionops {

/// Writes the filters of a problem whose groups have one channel in and one out as (taps, groups) of Compute<dtype>.
using DepthwiseFilters = void(const ConvolutionProblem& problem, void* filters);
VISIONOPS_KERNEL(DepthwiseFilters, depthwise_filters)

/// Whether the planes of a problem whose channels come first are narrow enough for the scratch to hold some lines. Then
/// `depthwise` takes pixels that are apart, and there is a depthwise_weight_planes.
using DepthwiseByPlanes = bool(const ConvolutionProblem& problem);
VISIONOPS_KERNEL(DepthwiseByPlanes, depthwise_by_planes)

/// Work items of `depthwise`: rows of the result, or planes of it where channels come first.
using DepthwiseItems = int64_t(const ConvolutionProblem& problem);
VISIONOPS_KERNEL(DepthwiseItems, depthwise_items)

/// Writes the items [begin, end) of out as `convolution` does, with its scratch, from filters as written by
/// depthwise_filters.
using Depthwise = void(const ConvolutionProblem& problem, const void* filters, void* scratch, int64_t begin,
                       int64_t end);
VISIONOPS_KERNEL(Depthwise, depthwise)

/// The gradient of a depthwise convolution by its weight, where channels are last: of `problem`, out is the gradient by
/// the result. Sums over parts of the positions, each (taps, groups) of Compute<dtype>, `sums` the first of them all;
/// how many parts there are depends on the problem alone.
using DepthwiseWeightParts = int64_t(const ConvolutionProblem& problem);
VISIONOPS_KERNEL(DepthwiseWeightParts, depthwise_weight_parts)

/// Writes the sums of the parts [begin, end).
using DepthwiseWeight = void(const ConvolutionProblem& problem, void* sums, int64_t begin, int64_t end);
VISIONOPS_KERNEL(DepthwiseWeight, depthwise_weight)

/// Writes the sums of all parts to the gradient, which has the strides of weight.
using DepthwiseWeightTotal = void(const ConvolutionProblem& problem, const void* sums, void* grad_weight);
VISIONOPS_KERNEL(DepthwiseWeightTotal, depthwise_weight_total)

/// Writes that gradient's channels [begin, end) where channels come first and depthwise_by_planes, by the strides of
/// weight. Scratch is that of `convolution`.
using DepthwiseWeightPlanes = void(const ConvolutionProblem& problem, void* grad_weight, void* scratch, int64_t begin,
                                   int64_t end);
VISIONOPS_KERNEL(DepthwiseWeightPlanes, depthwise_weight_planes)

/// A depthwise convolution whose result, never written, is the image of a pointwise one. Of `depthwise`, out does not
/// matter; of `pointwise`, image does not.
struct SeparableProblem {
  ConvolutionProblem depthwise, pointwise;
  const void* filters;  // of depthwise, as written by depthwise_filters
};

/// Items handed out piece by piece to whoever is done with others, so that a slow thread does not keep them waiting.
struct Rest {
  std::atomic<int64_t> next;
  int64_t end, piece;
};

struct SeparableWork {
  int64_t items;
  int64_t piece;  // how many of them a Rest should hand out at a time; 0 if threads should have their share at once
};

using SeparableWorkOf = SeparableWork(const SeparableProblem& problem);
VISIONOPS_KERNEL(SeparableWorkOf, separable_work)

/// Writes the items [begin, end) of pointwise.out, and then pieces of the rest. Scratch is that of `convolution`.
using Separable = void(const SeparableProblem& problem, void* scratch, int64_t begin, int64_t end, Rest& rest);
VISIONOPS_KERNEL(Separable, separable)

}  // namespace visionops
