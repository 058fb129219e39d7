// Channels of several groups dealt out in turn.
#pragma once

#include "common/dtype.h"

namespace visionops {

struct ShuffleProblem {
  DType dtype;
  int64_t batch, groups, channels, pixels;  // channels in all, a multiple of groups
  bool channels_last;
};

/// Writes the items [begin, end) of the result: channel c of it is channel c % groups * (channels / groups) + c /
/// groups of the image. Items are planes, batch * channels of them, or channels last pixels, batch * pixels.
using ChannelShuffle = void(const ShuffleProblem& problem, const void* image, void* out, int64_t begin, int64_t end);
VISIONOPS_KERNEL(ChannelShuffle, channel_shuffle)

}  // namespace visionops
