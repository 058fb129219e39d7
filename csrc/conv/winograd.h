// Convolution with 3 x 3 filters and stride 1 by Winograd's algorithm: 16 products a channel for 4 results, not 36.
#pragma once

#include "common/activation.h"
#include "common/target.h"

namespace visionops {

/// The channels of an image are so few that a block of them fits into the scratch.
constexpr int64_t kMostWinogradChannels = 512;

struct WinogradProblem {
  const float* image;    // (batch, in_channels, height, width)
  const float* filters;  // as written by winograd_filters
  const float* bias;     // (out_channels) or null
  float* out;            // (batch, out_channels, out_height, out_width); aliases nothing
  int64_t batch, in_channels, out_channels;
  int64_t height, width, out_height, out_width;
  int64_t top, left;   // rows and columns of zeros before the image
  bool channels_last;  // image and out lie in memory as (batch, height, width, channels)
  Activation activation;
};

/// How many output channels this instruction set multiplies with at a time, a tile of filters.
using WinogradRows = int64_t();
VISIONOPS_KERNEL(WinogradRows, winograd_rows)

/// Writes the tiles [begin, end) of filters (tiles, 16, in_channels, winograd_rows()) from the contiguous weight
/// (out_channels, in_channels, 3, 3); rows without an output channel become 0.
using WinogradFilters = void(const float* weight, int64_t out_channels, int64_t in_channels, float* filters,
                             int64_t begin, int64_t end);
VISIONOPS_KERNEL(WinogradFilters, winograd_filters)

/// Bytes of scratch for one call, aligned to 64, whatever the problem: less than a megabyte.
using WinogradScratchBytes = int64_t();
VISIONOPS_KERNEL(WinogradScratchBytes, winograd_scratch_bytes)

/// Work items: a block of the result's 2 x 2 tiles in the output channels of one tile of filters.
using WinogradItems = int64_t(const WinogradProblem& problem);
VISIONOPS_KERNEL(WinogradItems, winograd_items)

/// Writes the items [begin, end) of out: activation(sum over taps and channels + bias). The order of a sum depends on
/// the problem alone. What is not finite stays within the windows that meet it, but an infinity may become NaN.
using Winograd = void(const WinogradProblem& problem, void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(Winograd, winograd)

}  // namespace visionops
