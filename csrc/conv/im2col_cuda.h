// im2col and col2im on a GPU: what im2col.h says, with pointers into its memory and no wait for it.
#pragma once

#include "common/launch.cuh"
#include "conv/im2col.h"

namespace visionops::VISIONOPS_ISA {

/// How many values lie between neighbours of an image in each of its dimensions: any strides do.
struct ImageStrides {
  int64_t batch, channel, row, column;
};

/// Queues the work on all planes.
void im2col_cuda(const ColumnsProblem& problem, const void* image, const ImageStrides& strides, void* columns,
                 Stream stream);
void col2im_cuda(const ColumnsProblem& problem, const void* columns, void* image, Stream stream);

}  // namespace visionops::VISIONOPS_ISA
