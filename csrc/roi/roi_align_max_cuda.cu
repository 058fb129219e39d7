// RoIAlign by maximum on a GPU: a bin's greatest is a sample between four pixels.
#include "roi/roi_greatest.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Between two values; exactly the first where the fraction is 0, whatever the second.
template <class C>
VISIONOPS_HD C between(C low, C high, C fraction) {
  return fraction == 0 ? low : (1 - fraction) * low + fraction * high;
}

/// Of a sample.
template <class C>
struct SamplePlace {
  int32_t y, x;  // the pixel above and left of it; -1: it is on no map
  C below, beside;
};

template <class T, class B>
struct AlignMaxRule {
  using C = Compute<T>;
  using Axis = AlignAxis;
  using Where = SamplePlace<C>;
  using Roi = GreatestRoi<Axis>;

  static __device__ Roi roi(const RoiCall& call, int64_t k) {
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

  /// Row by row the first of equal ones; those on no map are 0 and come before all others.
  static __device__ C find(const RoiCall& call, const Roi& roi, const Place& bin, Where& place) {
    place = {-1, -1, 0, 0};
    C most = 0;
    if (roi.image < 0) return most;
    const RoiProblem& problem = call.problem;
    const RoiLevel& level = call.levels[0];
    const auto read = [&](int32_t row, int32_t column) {
      return to_compute(static_cast<const T*>(level.input)[offset_of(
          {roi.image, bin.channel, row, column}, problem.channels, level.height, level.width, problem.channels_last)]);
    };
    const SampleRange rows = samples_near(roi.y, bin.y), columns = samples_near(roi.x, bin.x);
    double on_map = 0;
    for (double i = rows.first; i < rows.last; ++i) {
      RoiSample row;
      if (!sample_at(roi.y.position(bin.y, i), level.height, row)) continue;
      for (double j = columns.first; j < columns.last; ++j) {
        RoiSample column;
        if (!sample_at(roi.x.position(bin.x, j), level.width, column)) continue;
        const auto below = below_one<C>(row.fraction), beside = below_one<C>(column.fraction);
        const C value = between(between(read(row.low, column.low), read(row.low, column.high), beside),
                                between(read(row.high, column.low), read(row.high, column.high), beside), below);
        if (on_map == 0 || value > most || (value != value && most == most)) {
          most = value;
          place = {row.low, column.low, below, beside};
        }
        ++on_map;
      }
    }
    const bool all_on_map = on_map == roi.y.grid * roi.x.grid;
    if (all_on_map || !(most <= 0)) return most;
    place = {-1, -1, 0, 0};
    return 0;
  }

  static __device__ Range rows(const RoiCall& call, const Roi& roi) {
    const double end = roi.y.start + roi.y.bin * static_cast<double>(call.problem.pooled_height);
    const double low = roi.y.start < end ? roi.y.start : end, high = roi.y.start < end ? end : roi.y.start;
    const double most = static_cast<double>(call.levels[0].height);
    const double first = std::floor(low) - 1, last = std::floor(high) + 3;
    return {static_cast<int64_t>(first > 0 ? (first < most ? first : most) : 0.0),
            static_cast<int64_t>(last < most ? (last > 0 ? last : 0.0) : most)};
  }

  /// Those that may have a sample next to the pixel, and perhaps one more at either end.
  static __device__ Range bins(const AlignAxis& axis, int64_t count, int64_t pixel) {
    // Without an extent all bins have their samples at one place.
    if (axis.bin == 0) return {0, count};
    const double low = (static_cast<double>(pixel) - 1 - axis.start) / axis.bin;
    const double high = (static_cast<double>(pixel) + 1 - axis.start) / axis.bin;
    const double most = static_cast<double>(count);
    const double first = std::floor(axis.bin > 0 ? low : high) - 1, last = std::floor(axis.bin > 0 ? high : low) + 2;
    return {first > 0 ? static_cast<int64_t>(first < most ? first : most) : 0,
            last < most ? static_cast<int64_t>(last > 0 ? last : 0.0) : count};
  }

  static __device__ C weight(const RoiLevel&, const Where& place, int64_t y, int64_t x) {
    if (place.y < 0) return 0;
    return weight_of(y, place.y, place.below) * weight_of(x, place.x, place.beside);
  }

  template <class Add>
  static __device__ void visit(const RoiLevel&, const Where& place, const Add& add) {
    if (place.y < 0) return;
    for (int64_t y = place.y; y <= place.y + (place.below != 0); ++y) {
      for (int64_t x = place.x; x <= place.x + (place.beside != 0); ++x) {
        add(y, x, weight_of(y, place.y, place.below) * weight_of(x, place.x, place.beside));
      }
    }
  }

 private:
  /// How much a sample weighs a pixel along one axis: `low` is the one before it, `fraction` the way to the next.
  static __device__ C weight_of(int64_t pixel, int32_t low, C fraction) {
    return pixel == low ? 1 - fraction : pixel == low + 1 ? fraction : C(0);
  }
};

}  // namespace

void roi_align_max_cuda(const RoiCall& call, void* out, Stream stream) {
  greatest<AlignMaxRule>(call, out, nullptr, stream);
}

int64_t roi_align_max_backward_cuda_workspace_bytes(const RoiCall& call, bool deterministic) {
  return greatest_backward_workspace_bytes<AlignMaxRule>(call, false, deterministic);
}

void roi_align_max_backward_cuda(const RoiCall& call, const RoiResult& grad, bool deterministic, void* workspace,
                                 void* grad_input, Stream stream) {
  greatest_backward<AlignMaxRule>(call, grad, nullptr, deterministic, workspace, grad_input, stream);
}

}  // namespace visionops::VISIONOPS_ISA
