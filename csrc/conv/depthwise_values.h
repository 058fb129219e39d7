// Values of a depthwise convolution: many channels of a few positions, or many positions of a few channels.
#pragma once

#include "conv/convolution.h"
#include "conv/tile.h"

namespace visionops::VISIONOPS_ISA {

/// The results of `channels` channels from `channel` on, at `count` positions from `first` on, where channels are last:
/// rows `stride` apart. `filters` are as written by depthwise_filters.
template <class T>
void depthwise_rows(const ConvolutionProblem& p, int64_t first, int64_t count, int64_t channel, int64_t channels,
                    const Compute<T>* filters, Compute<T>* to, int64_t stride);

// Columns that are computed together.
constexpr int64_t kColumnPanels = 8;

/// The same where channels come first, of up to kColumnPanels panels of positions: each (channels, kTileColumns), and
/// `stride` from the next one. Lanes beyond `count` have any value.
template <class T>
void depthwise_columns(const ConvolutionProblem& p, int64_t first, int64_t count, int64_t channel, int64_t channels,
                       const Compute<T>* filters, Compute<T>* to, int64_t stride);

}  // namespace visionops::VISIONOPS_ISA
