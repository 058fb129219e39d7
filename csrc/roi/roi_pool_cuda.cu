// RoIPool on a GPU: a bin's greatest is a pixel of its own.
#include "roi/roi_greatest.cuh"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {
namespace {

template <class T, class B>
struct PoolRule {
  using C = Compute<T>;
  using Axis = PoolAxis;
  using Where = uint32_t;  // as argmax has it
  using Roi = GreatestRoi<Axis>;

  static __device__ Roi roi(const RoiCall& call, int64_t k) {
    const RoiProblem& problem = call.problem;
    const RoiLevel& level = call.levels[0];
    const RoiBox box = load_roi(static_cast<const B*>(problem.boxes) + 5 * k);
    const PoolAxis y = pool_axis(box.y1, box.y2, level.spatial_scale, problem.pooled_height, level.height);
    const PoolAxis x = pool_axis(box.x1, box.x2, level.spatial_scale, problem.pooled_width, level.width);
    const bool valid = box.is_finite() && box.has_image(problem.batch) && y.is_valid() && x.is_valid();
    return {valid ? static_cast<int64_t>(box.image) : -1, y, x};
  }

  static __device__ C find(const RoiCall& call, const Roi& roi, const Place& bin, Where& place) {
    place = kNoPixel;
    C most = 0;
    if (roi.image < 0) return most;
    const RoiProblem& problem = call.problem;
    const RoiLevel& level = call.levels[0];
    int32_t top, bottom, left, right;
    roi.y.pixels(bin.y, top, bottom);
    roi.x.pixels(bin.x, left, right);
    for (int64_t y = top; y < bottom; ++y) {
      for (int64_t x = left; x < right; ++x) {
        const int64_t at = offset_of({roi.image, bin.channel, y, x}, problem.channels, level.height, level.width,
                                     problem.channels_last);
        const C value = to_compute(static_cast<const T*>(level.input)[at]);
        // The first of equal ones, and of those that are NaN.
        if (place == kNoPixel || value > most || (value != value && most == most)) {
          most = value;
          place = static_cast<uint32_t>(y * level.width + x);
        }
      }
    }
    return most;
  }

  static __device__ Range rows(const RoiCall& call, const Roi& roi) {
    int32_t first, last, unused;
    roi.y.pixels(0, first, unused);
    roi.y.pixels(call.problem.pooled_height - 1, unused, last);
    return {first, last};
  }

  static __device__ Range bins(const PoolAxis& axis, int64_t count, int64_t pixel) {
    Range range = {0, count};
    int32_t begin, end;
    for (axis.pixels(range.first, begin, end); range.first < range.last && end <= pixel;) {
      if (++range.first < range.last) axis.pixels(range.first, begin, end);
    }
    for (axis.pixels(range.last - 1, begin, end); range.last > range.first && begin > pixel;) {
      if (--range.last > range.first) axis.pixels(range.last - 1, begin, end);
    }
    return range;
  }

  static __device__ C weight(const RoiLevel& level, Where place, int64_t y, int64_t x) {
    return int64_t{place} == y * level.width + x ? C(1) : C(0);
  }

  /// An argmax may hold any number.
  template <class Add>
  static __device__ void visit(const RoiLevel& level, Where place, const Add& add) {
    if (int64_t{place} < level.height * level.width) add(place / level.width, place % level.width, C(1));
  }
};

}  // namespace

void roi_pool_cuda(const RoiCall& call, void* out, uint32_t* argmax, Stream stream) {
  greatest<PoolRule>(call, out, argmax, stream);
}

int64_t roi_pool_backward_cuda_workspace_bytes(const RoiCall& call, bool deterministic) {
  return greatest_backward_workspace_bytes<PoolRule>(call, true, deterministic);
}

void roi_pool_backward_cuda(const RoiCall& call, const RoiResult& grad, const uint32_t* argmax, bool deterministic,
                            void* workspace, void* grad_input, Stream stream) {
  greatest_backward<PoolRule>(call, grad, argmax, deterministic, workspace, grad_input, stream);
}

}  // namespace visionops::VISIONOPS_ISA
