// RoIPool on a GPU: a thread for each value of the result, or of the gradient, which finds the bins that are its own.
#include "roi/roi_gather.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// The pixels of a RoI's bins along both axes.
struct PoolRoi {
  int64_t image;  // -1: the RoI is empty
  PoolAxis y, x;
};

template <class B>
VISIONOPS_HD PoolRoi pool_roi(const RoiCall& call, int64_t k) {
  const RoiProblem& problem = call.problem;
  const RoiLevel& level = call.levels[0];
  const RoiBox box = load_roi(static_cast<const B*>(problem.boxes) + 5 * k);
  const PoolAxis y = pool_axis(box.y1, box.y2, level.spatial_scale, problem.pooled_height, level.height);
  const PoolAxis x = pool_axis(box.x1, box.x2, level.spatial_scale, problem.pooled_width, level.width);
  const bool valid = box.is_finite() && box.has_image(problem.batch) && y.is_valid() && x.is_valid();
  return {valid ? static_cast<int64_t>(box.image) : -1, y, x};
}

/// A bin's greatest pixel: its value, and its number in the plane, -1 for a bin without pixels.
template <class T>
struct GreatestPixel {
  Compute<T> value = 0;
  int64_t number = -1;

  __device__ GreatestPixel(const RoiCall& call, const PoolRoi& roi, const Place& at) {
    if (roi.image < 0) return;
    const RoiProblem& problem = call.problem;
    const RoiLevel& level = call.levels[0];
    int32_t top, bottom, left, right;
    roi.y.pixels(at.y, top, bottom);
    roi.x.pixels(at.x, left, right);
    for (int64_t y = top; y < bottom; ++y) {
      for (int64_t x = left; x < right; ++x) {
        const Place pixel = {roi.image, at.channel, y, x};
        const Compute<T> other = to_compute(static_cast<const T*>(
            level.input)[offset_of(pixel, problem.channels, level.height, level.width, problem.channels_last)]);
        // The first of equal ones, and of those that are NaN.
        if (number < 0 || other > value || (other != other && value == value)) {
          value = other;
          number = y * level.width + x;
        }
      }
    }
  }
};

template <class T, class B>
__global__ void pool(RoiCall call, T* out, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const Place at = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last);
  out[i] = from_compute<T>(GreatestPixel<T>(call, pool_roi<B>(call, at.outer), at).value);
}

/// A thread per RoI.
template <class B>
__global__ void find_rows(RoiCall call, RoiRows* rows) {
  const int64_t k = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (k >= call.problem.rois) return;
  const PoolRoi roi = pool_roi<B>(call, k);
  rows[k] = {roi.image, 0, 0};
  if (roi.image < 0) return;
  int32_t unused;
  roi.y.pixels(0, rows[k].first, unused);
  roi.y.pixels(call.problem.pooled_height - 1, unused, rows[k].last);
}

/// A thread per value of the result: the number of the pixel that is its maximum.
template <class T, class B>
__global__ void find_pixels(RoiCall call, int64_t* numbers, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const Place at = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last);
  numbers[i] = GreatestPixel<T>(call, pool_roi<B>(call, at.outer), at).number;
}

/// The bins [first, last) of an axis that hold a pixel.
struct BinRange {
  int64_t first, last;
};

VISIONOPS_HD inline BinRange bins_of(const PoolAxis& axis, int64_t pixel) {
  BinRange range = {0, axis.bins};
  int32_t begin, end;
  for (axis.pixels(range.first, begin, end); range.first < range.last && end <= pixel;) {
    if (++range.first < range.last) axis.pixels(range.first, begin, end);
  }
  for (axis.pixels(range.last - 1, begin, end); range.last > range.first && begin > pixel;) {
    if (--range.last > range.first) axis.pixels(range.last - 1, begin, end);
  }
  return range;
}

/// A thread per value of the gradient.
template <class T, class B>
__global__ void pool_backward(RoiCall call, const RoiRows* rows, const int64_t* numbers, RoiResult grad, T* grad_input,
                              int64_t count) {
  using C = Compute<T>;
  VISIONOPS_SHARED(Hits, hits);
  const RoiProblem& problem = call.problem;
  const RoiLevel level = call.levels[0];
  const bool channels_last = problem.channels_last;
  const int64_t begin = int64_t{blockIdx.x} * kRoiThreads;
  const int64_t end = begin + kRoiThreads < count ? begin + kRoiThreads : count;
  const BlockRows block = rows_of_block(begin, end, problem.channels, level.height, level.width, channels_last);
  const int64_t i = begin + threadIdx.x < count ? begin + threadIdx.x : count - 1;
  const Place at = place_of(i, problem.channels, level.height, level.width, channels_last);
  C sum = 0;
  visit_hits(
      problem.rois, hits, [&](int64_t k) { return may_hit(rows[k], block); },
      [&](int64_t k) {
        if (rows[k].image != at.outer || at.y < rows[k].first || at.y >= rows[k].last) return;
        const PoolRoi roi = pool_roi<B>(call, k);
        const BinRange of_rows = bins_of(roi.y, at.y), of_columns = bins_of(roi.x, at.x);
        for (int64_t p = of_rows.first; p < of_rows.last; ++p) {
          for (int64_t q = of_columns.first; q < of_columns.last; ++q) {
            const Place bin = {k, at.channel, p, q};
            const int64_t place =
                offset_of(bin, problem.channels, problem.pooled_height, problem.pooled_width, channels_last);
            if (numbers[place] == at.y * level.width + at.x) sum += value_at<T>(grad, k, at.channel, p, q);
          }
        }
      });
  if (begin + threadIdx.x < count) grad_input[i] = from_compute<T>(sum);
}

int64_t row_bytes(const RoiProblem& problem) { return blocks_of(problem.rois * int64_t{sizeof(RoiRows)}, 256) * 256; }

}  // namespace

void roi_pool_cuda(const RoiCall& call, void* out, Stream stream) {
  visit_types(call.problem, [&](auto map, auto box) {
    using T = typename decltype(map)::type;
    using B = typename decltype(box)::type;
    const int64_t count = result_values(call.problem);
    launch(pool<T, B>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call, static_cast<T*>(out), count);
  });
}

int64_t roi_pool_backward_cuda_workspace_bytes(const RoiCall& call) {
  return row_bytes(call.problem) + result_values(call.problem) * int64_t{sizeof(int64_t)};
}

void roi_pool_backward_cuda(const RoiCall& call, const RoiResult& grad, void* workspace, void* grad_input,
                            Stream stream) {
  visit_types(call.problem, [&](auto map, auto box) {
    using T = typename decltype(map)::type;
    using B = typename decltype(box)::type;
    auto* const rows = static_cast<RoiRows*>(workspace);
    auto* const numbers = reinterpret_cast<int64_t*>(static_cast<char*>(workspace) + row_bytes(call.problem));
    const int64_t bins = result_values(call.problem);
    launch(find_rows<B>, blocks_of(call.problem.rois, kRoiThreads), kRoiThreads, stream, call, rows);
    launch(find_pixels<T, B>, blocks_of(bins, kRoiThreads), kRoiThreads, stream, call, numbers, bins);
    const RoiLevel& level = call.levels[0];
    const int64_t count = call.problem.batch * call.problem.channels * level.height * level.width;
    launch(pool_backward<T, B>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call,
           static_cast<const RoiRows*>(rows), static_cast<const int64_t*>(numbers), grad, static_cast<T*>(grad_input),
           count);
  });
}

}  // namespace visionops::VISIONOPS_ISA
