// RoIAlign by maximum on a GPU: a thread for each value of the result, or of the gradient, which asks the bins around
// it.
#include "roi/roi_gather.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

struct AlignRoi {
  int64_t image;  // -1: the RoI is empty
  AlignAxis y, x;
};

template <class B>
VISIONOPS_HD AlignRoi align_roi(const RoiCall& call, int64_t k) {
  const RoiProblem& problem = call.problem;
  const RoiLevel& level = call.levels[0];
  const RoiBox box = load_roi(static_cast<const B*>(problem.boxes) + 5 * k);
  const AlignAxis y = align_axis(box.y1, box.y2, level.spatial_scale, problem.aligned, problem.pooled_height,
                                 problem.sampling_ratio, level.height);
  const AlignAxis x = align_axis(box.x1, box.x2, level.spatial_scale, problem.aligned, problem.pooled_width,
                                 problem.sampling_ratio, level.width);
  const bool valid = box.is_finite() && box.has_image(problem.batch) && y.is_valid() && x.is_valid();
  return {valid ? static_cast<int64_t>(box.image) : -1, y, x};
}

/// Between two values; exactly the first where the fraction is 0, whatever the second.
template <class C>
VISIONOPS_HD C between(C low, C high, C fraction) {
  return fraction == 0 ? low : (1 - fraction) * low + fraction * high;
}

/// A bin's greatest sample, row by row the first of equal ones; those on no map are 0 and come before all others.
template <class C>
struct GreatestSample {
  C value;
  int32_t y, x;  // the pixel above and left of it; -1: it is on no map
  C below, beside;
};

template <class T>
__device__ GreatestSample<Compute<T>> greatest_sample(const RoiCall& call, const AlignRoi& roi, const Place& at) {
  using C = Compute<T>;
  GreatestSample<C> most = {0, -1, -1, 0, 0};
  if (roi.image < 0) return most;
  const RoiProblem& problem = call.problem;
  const RoiLevel& level = call.levels[0];
  const auto read = [&](int32_t row, int32_t column) {
    const Place pixel = {roi.image, at.channel, row, column};
    return to_compute(static_cast<const T*>(
        level.input)[offset_of(pixel, problem.channels, level.height, level.width, problem.channels_last)]);
  };
  const SampleRange rows = samples_near(roi.y, at.y), columns = samples_near(roi.x, at.x);
  double on_map = 0;
  for (double i = rows.first; i < rows.last; ++i) {
    RoiSample row;
    if (!sample_at(roi.y.position(at.y, i), level.height, row)) continue;
    for (double j = columns.first; j < columns.last; ++j) {
      RoiSample column;
      if (!sample_at(roi.x.position(at.x, j), level.width, column)) continue;
      const auto below = static_cast<C>(row.fraction), beside = static_cast<C>(column.fraction);
      const C value = between(between(read(row.low, column.low), read(row.low, column.high), beside),
                              between(read(row.high, column.low), read(row.high, column.high), beside), below);
      if (on_map == 0 || value > most.value || (value != value && most.value == most.value)) {
        most = {value, row.low, column.low, below, beside};
      }
      ++on_map;
    }
  }
  const bool all_on_map = on_map == roi.y.grid * roi.x.grid;
  if (!all_on_map && most.value <= 0) most = {0, -1, -1, 0, 0};
  return most;
}

template <class T, class B>
__global__ void align_max(RoiCall call, T* out, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const Place at = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last);
  out[i] = from_compute<T>(greatest_sample<T>(call, align_roi<B>(call, at.outer), at).value);
}

/// A thread per value of the result.
template <class T, class B>
__global__ void find_samples(RoiCall call, GreatestSample<Compute<T>>* samples, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const Place at = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last);
  samples[i] = greatest_sample<T>(call, align_roi<B>(call, at.outer), at);
}

/// The bins [first, last) of an axis that may have a sample next to a pixel, and perhaps one more at either end.
struct BinRange {
  int64_t first, last;
};

VISIONOPS_HD inline BinRange bins_near(const AlignAxis& axis, int64_t bins, int64_t pixel) {
  // Without an extent all bins have their samples at one place.
  if (axis.bin == 0) return {0, bins};
  const double low = (static_cast<double>(pixel) - 1 - axis.start) / axis.bin;
  const double high = (static_cast<double>(pixel) + 1 - axis.start) / axis.bin;
  const double most = static_cast<double>(bins);
  const double first = std::floor(axis.bin > 0 ? low : high) - 1, last = std::floor(axis.bin > 0 ? high : low) + 2;
  return {first > 0 ? static_cast<int64_t>(first < most ? first : most) : 0,
          last < most ? static_cast<int64_t>(last > 0 ? last : 0.0) : bins};
}

/// A thread per RoI.
template <class B>
__global__ void find_rows(RoiCall call, RoiRows* rows) {
  const int64_t k = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (k >= call.problem.rois) return;
  const AlignRoi roi = align_roi<B>(call, k);
  const double end = roi.y.start + roi.y.bin * static_cast<double>(call.problem.pooled_height);
  const double low = roi.y.start < end ? roi.y.start : end, high = roi.y.start < end ? end : roi.y.start;
  const double most = static_cast<double>(call.levels[0].height);
  const double first = std::floor(low) - 1, last = std::floor(high) + 3;
  rows[k] = {roi.image, static_cast<int32_t>(first > 0 ? (first < most ? first : most) : 0.0),
             static_cast<int32_t>(last < most ? (last > 0 ? last : 0.0) : most)};
}

/// How much a sample weighs a pixel along one axis: `low` is the one before it, `fraction` the way to the next.
template <class C>
VISIONOPS_HD C weight_of(int64_t pixel, int32_t low, C fraction) {
  return pixel == low ? 1 - fraction : pixel == low + 1 ? fraction : C(0);
}

/// A thread per value of the gradient.
template <class T, class B>
__global__ void align_max_backward(RoiCall call, const RoiRows* rows, const GreatestSample<Compute<T>>* samples,
                                   RoiResult grad, T* grad_input, int64_t count) {
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
        const AlignRoi roi = align_roi<B>(call, k);
        const BinRange of_rows = bins_near(roi.y, problem.pooled_height, at.y);
        const BinRange of_columns = bins_near(roi.x, problem.pooled_width, at.x);
        for (int64_t p = of_rows.first; p < of_rows.last; ++p) {
          for (int64_t q = of_columns.first; q < of_columns.last; ++q) {
            const Place bin = {k, at.channel, p, q};
            const GreatestSample<C> most =
                samples[offset_of(bin, problem.channels, problem.pooled_height, problem.pooled_width, channels_last)];
            if (most.y < 0) continue;
            const C weight = weight_of(at.y, most.y, most.below) * weight_of(at.x, most.x, most.beside);
            if (weight != 0) sum += weight * value_at<T>(grad, k, at.channel, p, q);
          }
        }
      });
  if (begin + threadIdx.x < count) grad_input[i] = from_compute<T>(sum);
}

int64_t row_bytes(const RoiProblem& problem) { return blocks_of(problem.rois * int64_t{sizeof(RoiRows)}, 256) * 256; }

}  // namespace

void roi_align_max_cuda(const RoiCall& call, void* out, Stream stream) {
  visit_types(call.problem, [&](auto map, auto box) {
    using T = typename decltype(map)::type;
    using B = typename decltype(box)::type;
    const int64_t count = result_values(call.problem);
    launch(align_max<T, B>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call, static_cast<T*>(out), count);
  });
}

int64_t roi_align_max_backward_cuda_workspace_bytes(const RoiCall& call) {
  const bool wide = call.problem.dtype == DType::f64;
  const int64_t bytes = wide ? sizeof(GreatestSample<double>) : sizeof(GreatestSample<float>);
  return row_bytes(call.problem) + result_values(call.problem) * bytes;
}

void roi_align_max_backward_cuda(const RoiCall& call, const RoiResult& grad, void* workspace, void* grad_input,
                                 Stream stream) {
  visit_types(call.problem, [&](auto map, auto box) {
    using T = typename decltype(map)::type;
    using B = typename decltype(box)::type;
    using Sample = GreatestSample<Compute<T>>;
    auto* const rows = static_cast<RoiRows*>(workspace);
    auto* const samples = reinterpret_cast<Sample*>(static_cast<char*>(workspace) + row_bytes(call.problem));
    const int64_t bins = result_values(call.problem);
    launch(find_rows<B>, blocks_of(call.problem.rois, kRoiThreads), kRoiThreads, stream, call, rows);
    launch(find_samples<T, B>, blocks_of(bins, kRoiThreads), kRoiThreads, stream, call, samples, bins);
    const RoiLevel& level = call.levels[0];
    const int64_t count = call.problem.batch * call.problem.channels * level.height * level.width;
    launch(align_max_backward<T, B>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call,
           static_cast<const RoiRows*>(rows), static_cast<const Sample*>(samples), grad, static_cast<T*>(grad_input),
           count);
  });
}

}  // namespace visionops::VISIONOPS_ISA
