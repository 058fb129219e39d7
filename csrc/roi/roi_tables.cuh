// The weights of all RoIs along both axes, computed on the GPU: by bin for the forward pass, by line for the backward
// one.
#pragma once

#include "roi/roi_gather.cuh"

namespace visionops::VISIONOPS_ISA {

/// The most weights that a RoI has along an axis. Adaptive samples are at most a pixel apart, so that bins share no
/// more than the pixels at their ends.
inline int64_t most_weights(int64_t bins, int64_t size, int64_t sampling_ratio) {
  if (sampling_ratio <= 0) return size + 2 * bins + 2;
  return bins * (2 * sampling_ratio < size ? 2 * sampling_ratio : size);
}

/// Of all RoIs along one axis: those of RoI k begin at k times their number.
template <class C>
struct AxisTable {
  int64_t bins, most, groups;
  int32_t* first;  // by RoI: the first line, backward only
  int32_t* begin;  // (groups + 1) by RoI: entries of a bin, or of line first + i
  int32_t* count;  // by RoI: groups that it has
  int32_t* other;  // by entry: its line, or its bin
  C* weights;
};

template <class C>
struct Tables {
  int64_t* map;  // by RoI; -1 for none
  AxisTable<C> y, x;
  int64_t bytes = 0;

  Tables(const RoiCall& call, bool backward, void* memory) : base_(static_cast<char*>(memory)) {
    const RoiProblem& problem = call.problem;
    int64_t height = 0, width = 0;
    for (int64_t l = 0; l < problem.level_count; ++l) {
      height = call.levels[l].height > height ? call.levels[l].height : height;
      width = call.levels[l].width > width ? call.levels[l].width : width;
    }
    take(map, problem.rois);
    lay_out(y, problem, problem.pooled_height, height, backward);
    lay_out(x, problem, problem.pooled_width, width, backward);
  }

 private:
  void lay_out(AxisTable<C>& axis, const RoiProblem& problem, int64_t bins, int64_t size, bool backward) {
    axis.bins = bins;
    axis.most = most_weights(bins, size, problem.sampling_ratio);
    axis.groups = backward ? size : bins;
    take(axis.first, problem.rois);
    take(axis.count, problem.rois);
    take(axis.begin, problem.rois * (axis.groups + 1));
    take(axis.other, problem.rois * axis.most);
    take(axis.weights, problem.rois * axis.most);
  }

  template <class E>
  void take(E*& array, int64_t count) {
    array = reinterpret_cast<E*>(base_ + bytes);
    bytes += blocks_of(count * int64_t{sizeof(E)}, 256) * 256;
  }

  char* base_;
};

/// Entries by bin; returns how many.
template <class C>
__device__ int32_t fill_by_bin(const AlignAxis& align, const AxisTable<C>& axis, int64_t k) {
  int32_t* const begin = axis.begin + k * (axis.groups + 1);
  int32_t entries = 0;
  for (int64_t p = 0; p < axis.bins; ++p) {
    begin[p] = entries;
    visit_weights(align, p, [&](int32_t line, double weight) {
      if (entries >= axis.most) return;
      axis.other[k * axis.most + entries] = line;
      axis.weights[k * axis.most + entries] = static_cast<C>(weight);
      ++entries;
    });
  }
  begin[axis.bins] = entries;
  return entries;
}

/// Entries by line, from the first line that has any to the last, each line's bins ascending; returns how many.
template <class C>
__device__ int32_t fill_by_line(const AlignAxis& align, const AxisTable<C>& axis, int64_t k) {
  int32_t first = INT32_MAX, last = -1, entries = 0;
  for (int64_t p = 0; p < axis.bins; ++p) {
    visit_weights(align, p, [&](int32_t line, double) {
      first = line < first ? line : first;
      last = line > last ? line : last;
      ++entries;
    });
  }
  axis.first[k] = first;
  axis.count[k] = entries > 0 ? last - first + 1 : 0;
  if (entries == 0 || entries > axis.most) return 0;
  // begin[l + 1] counts line l, then says where it begins, and when it is full where the next one does.
  int32_t* const begin = axis.begin + k * (axis.groups + 1);
  for (int32_t l = 0; l <= axis.count[k]; ++l) begin[l] = 0;
  for (int64_t p = 0; p < axis.bins; ++p) {
    visit_weights(align, p, [&](int32_t line, double) { ++begin[line - first + 1]; });
  }
  int32_t before = 0;
  for (int32_t l = 1; l <= axis.count[k]; ++l) {
    const int32_t of_line = begin[l];
    begin[l] = before;
    before += of_line;
  }
  for (int64_t p = 0; p < axis.bins; ++p) {
    visit_weights(align, p, [&](int32_t line, double weight) {
      const int64_t to = k * axis.most + begin[line - first + 1]++;
      axis.other[to] = static_cast<int32_t>(p);
      axis.weights[to] = static_cast<C>(weight);
    });
  }
  return entries;
}

/// A thread per RoI.
template <class B, class C>
__global__ void compute_weights(RoiCall call, Tables<C> tables, bool by_line) {
  const int64_t k = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  const RoiProblem& problem = call.problem;
  if (k >= problem.rois) return;
  tables.map[k] = -1;
  const RoiBox box = load_roi(static_cast<const B*>(problem.boxes) + 5 * k);
  if (!box.is_finite() || !box.has_image(problem.batch)) return;
  const int32_t l = level_of(box, problem);
  const RoiLevel level = call.levels[l];
  const AlignAxis y = align_axis(box.y1, box.y2, level.spatial_scale, problem.aligned, problem.pooled_height,
                                 problem.sampling_ratio, level.height);
  const AlignAxis x = align_axis(box.x1, box.x2, level.spatial_scale, problem.aligned, problem.pooled_width,
                                 problem.sampling_ratio, level.width);
  if (!y.is_valid() || !x.is_valid()) return;
  const int32_t rows = by_line ? fill_by_line(y, tables.y, k) : fill_by_bin(y, tables.y, k);
  const int32_t columns = by_line ? fill_by_line(x, tables.x, k) : fill_by_bin(x, tables.x, k);
  if (rows > 0 && columns > 0) tables.map[k] = l * problem.batch + static_cast<int64_t>(box.image);
}

template <class C>
void launch_weights(const RoiCall& call, const Tables<C>& tables, bool by_line, Stream stream) {
  visit_floating(call.problem.boxes_dtype, [&](auto box) {
    using B = typename decltype(box)::type;
    launch(compute_weights<B, C>, blocks_of(call.problem.rois, kRoiThreads), kRoiThreads, stream, call, tables,
           by_line);
  });
}

}  // namespace visionops::VISIONOPS_ISA
