// The shape of a pooling as every kernel sees it: two axes, and what is around them in either layout.
#pragma once

#include "common/dtype.h"

namespace visionops {

/// Window `o` of an axis has taps `t` at o * stride - padding + t * dilation, of which those in [0, in) count.
struct PoolAxis {
  int64_t in, out;  // pixels and windows, fewer than 2^31
  int64_t kernel, stride, padding, dilation;
};

/// Images (outer, y.in, x.in, inner) to (outer, y.out, x.out, inner), both dense: outer is B * C and inner 1, or in
/// channels_last outer is B and inner C.
struct PoolShape {
  int64_t outer, inner;
  PoolAxis y, x;
  DType dtype;
};

/// How much there is to do: items of work, the elements that one reads or writes, and the bytes of scratch, aligned to
/// 64, that whoever does some of them needs.
struct PoolWork {
  int64_t items, elements, scratch_bytes;
};

namespace VISIONOPS_ISA {

VISIONOPS_HD inline int64_t pool_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// a / b of numbers along an axis, 0 <= a < 2^32 and 0 < b < 2^31: a GPU divides 64 bits by a long subroutine.
VISIONOPS_HD inline int64_t pool_axis_div(int64_t a, int64_t b) {
  return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
}

/// The taps [begin, end) of window `o` that lie in the image; begin == end if none does.
struct PoolTaps {
  int64_t begin, end;

  VISIONOPS_HD PoolTaps(const PoolAxis& axis, int64_t o) {
    const int64_t first = o * axis.stride - axis.padding;
    begin = first < 0 ? pool_axis_div(-first - 1, axis.dilation) + 1 : 0;
    const int64_t room = axis.in - first;
    if (room > (axis.kernel - 1) * axis.dilation) {
      end = axis.kernel;  // as nearly always, without a division
    } else {
      end = room > 0 ? pool_axis_div(room - 1, axis.dilation) + 1 : 0;
    }
    if (begin > end) begin = end;
  }
};

/// The windows [begin, end) that may hold pixel `i`: those that do have a tap there.
struct PoolWindows {
  int64_t begin, end;

  VISIONOPS_HD PoolWindows(const PoolAxis& axis, int64_t i) {
    const int64_t place = i + axis.padding, before = place - (axis.kernel - 1) * axis.dilation;
    begin = before > 0 ? pool_axis_div(before - 1, axis.stride) + 1 : 0;
    end = pool_axis_div(place, axis.stride) + 1;
    if (end > axis.out) end = axis.out;
  }
};

}  // namespace VISIONOPS_ISA
}  // namespace visionops
