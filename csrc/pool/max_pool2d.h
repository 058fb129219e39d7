// The maximum of each window, the tap where it stands, and what goes to or comes from those taps.
//
// The offset of tap (row, column) is row * x.kernel + column: uint8 for at most 256 taps, else int32. Of equal maxima
// the first counts, of NaNs the last; a window without a tap in the image has -inf and offset 0.
#pragma once

#include "pool/pool_shape.h"

namespace visionops {

namespace VISIONOPS_ISA {

/// Whether a later value takes the place of the best so far: a NaN does.
template <class C>
VISIONOPS_HD inline bool is_better(C value, C best) {
  return (value > best) | (value != value);
}

VISIONOPS_HD inline bool has_small_offsets(const PoolShape& shape) { return shape.y.kernel * shape.x.kernel <= 256; }

}  // namespace VISIONOPS_ISA

using MaxPool2dWork = PoolWork(const PoolShape& shape);
VISIONOPS_KERNEL(MaxPool2dWork, max_pool2d_work)

/// Writes the items [begin, end) of output, and of offsets unless null.
using MaxPool2d = void(const PoolShape& shape, const void* input, void* output, void* offsets, void* scratch,
                       int64_t begin, int64_t end);
VISIONOPS_KERNEL(MaxPool2d, max_pool2d)

using MaxPool2dBackwardWork = PoolWork(const PoolShape& shape);
VISIONOPS_KERNEL(MaxPool2dBackwardWork, max_pool2d_backward_work)

/// Writes the items [begin, end) of grad_input, every element of them; grad and offsets have the shape of the result.
/// An element sums what it gets in the order of the windows. Offsets may hold any values.
using MaxPool2dBackward = void(const PoolShape& shape, const void* grad, const void* offsets, void* grad_input,
                               void* scratch, int64_t begin, int64_t end);
VISIONOPS_KERNEL(MaxPool2dBackward, max_pool2d_backward)

/// Writes the rows [begin, end), of outer * y.out, of output, of the result's shape: the element of input that the
/// offset names, or 0 if it names none.
using MaxPool2dTaken = void(const PoolShape& shape, const void* input, const void* offsets, void* output, int64_t begin,
                            int64_t end);
VISIONOPS_KERNEL(MaxPool2dTaken, max_pool2d_taken)

/// Writes the rows [begin, end), of outer * y.out, of indices, of the result's shape: y * x.in + x of the tap that the
/// offset names, or -1 if it names none in the image.
using MaxPool2dIndices = void(const PoolShape& shape, const void* offsets, int64_t* indices, int64_t begin,
                              int64_t end);
VISIONOPS_KERNEL(MaxPool2dIndices, max_pool2d_indices)

}  // namespace visionops
