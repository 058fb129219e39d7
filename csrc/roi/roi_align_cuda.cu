// RoIAlign on a GPU: weights per RoI and axis first, then a thread for each value of the result or the gradient.
#include "roi/roi_gather.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

/// The most weights that a RoI has along an axis. Adaptive samples are at most a pixel apart, so that bins share no
/// more than the pixels at their ends.
int64_t most_weights(int64_t bins, int64_t size, int64_t sampling_ratio) {
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

/// A thread per value of the result.
template <class T>
__global__ void align(RoiCall call, Tables<Compute<T>> tables, T* out, int64_t count) {
  using C = Compute<T>;
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const bool last = problem.channels_last;
  const Place at = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, last);
  const int64_t k = at.outer, map = tables.map[k];
  C sum = 0;
  if (map >= 0) {
    const RoiLevel level = call.levels[map / problem.batch];
    const T* const input = static_cast<const T*>(level.input);
    const AxisTable<C>&rows = tables.y, &columns = tables.x;
    const int32_t* const row_begin = rows.begin + k * (rows.groups + 1) + at.y;
    const int32_t* const column_begin = columns.begin + k * (columns.groups + 1) + at.x;
    for (int64_t r = k * rows.most + row_begin[0]; r < k * rows.most + row_begin[1]; ++r) {
      C of_row = 0;
      for (int64_t c = k * columns.most + column_begin[0]; c < k * columns.most + column_begin[1]; ++c) {
        const Place pixel = {map % problem.batch, at.channel, rows.other[r], columns.other[c]};
        of_row +=
            columns.weights[c] * to_compute(input[offset_of(pixel, problem.channels, level.height, level.width, last)]);
      }
      sum += rows.weights[r] * of_row;
    }
  }
  out[i] = from_compute<T>(sum);
}

/// A thread per value of a level's gradient.
template <class T>
__global__ void align_backward(RoiCall call, Tables<Compute<T>> tables, RoiResult grad, int64_t level_index,
                               T* grad_input, int64_t count) {
  using C = Compute<T>;
  VISIONOPS_SHARED(Hits, hits);
  const RoiProblem& problem = call.problem;
  const RoiLevel level = call.levels[level_index];
  const bool last = problem.channels_last;
  const int64_t begin = int64_t{blockIdx.x} * kRoiThreads;
  const int64_t end = begin + kRoiThreads < count ? begin + kRoiThreads : count;
  const BlockRows block = rows_of_block(begin, end, problem.channels, level.height, level.width, last);
  const int64_t i = begin + threadIdx.x < count ? begin + threadIdx.x : count - 1;
  const Place at = place_of(i, problem.channels, level.height, level.width, last);
  const int64_t first_map = level_index * problem.batch;
  const AxisTable<C>&rows = tables.y, &columns = tables.x;
  C sum = 0;
  visit_hits(
      problem.rois, hits,
      [&](int64_t k) {
        const int64_t image = tables.map[k] - first_map;
        return tables.map[k] >= 0 && image >= block.first_image && image <= block.last_image &&
               rows.first[k] <= block.last_row && rows.first[k] + rows.count[k] > block.first_row;
      },
      [&](int64_t k) {
        const int64_t y = at.y - rows.first[k], x = at.x - columns.first[k];
        if (tables.map[k] - first_map != at.outer || y < 0 || y >= rows.count[k] || x < 0 || x >= columns.count[k]) {
          return;
        }
        const int32_t* const row_begin = rows.begin + k * (rows.groups + 1) + y;
        const int32_t* const column_begin = columns.begin + k * (columns.groups + 1) + x;
        for (int64_t r = k * rows.most + row_begin[0]; r < k * rows.most + row_begin[1]; ++r) {
          C of_row = 0;
          for (int64_t c = k * columns.most + column_begin[0]; c < k * columns.most + column_begin[1]; ++c) {
            of_row += columns.weights[c] * value_at<T>(grad, k, at.channel, rows.other[r], columns.other[c]);
          }
          sum += rows.weights[r] * of_row;
        }
      });
  if (begin + threadIdx.x < count) grad_input[i] = from_compute<T>(sum);
}

}  // namespace

RoiCall roi_call(const RoiProblem& problem) {
  RoiCall call{problem, {}};
  for (int64_t l = 0; l < problem.level_count; ++l) call.levels[l] = problem.levels[l];
  call.problem.levels = nullptr;
  return call;
}

int64_t roi_align_cuda_workspace_bytes(const RoiCall& call, bool backward) {
  if (call.problem.dtype == DType::f64) return Tables<double>(call, backward, nullptr).bytes;
  return Tables<float>(call, backward, nullptr).bytes;
}

namespace {

template <class C>
void launch_weights(const RoiCall& call, const Tables<C>& tables, bool by_line, Stream stream) {
  visit_floating(call.problem.boxes_dtype, [&](auto box) {
    using B = typename decltype(box)::type;
    launch(compute_weights<B, C>, blocks_of(call.problem.rois, kRoiThreads), kRoiThreads, stream, call, tables,
           by_line);
  });
}

}  // namespace

void roi_align_cuda(const RoiCall& call, void* workspace, void* out, Stream stream) {
  visit_floating(call.problem.dtype, [&](auto map) {
    using T = typename decltype(map)::type;
    const Tables<Compute<T>> tables(call, false, workspace);
    launch_weights(call, tables, false, stream);
    const int64_t count = result_values(call.problem);
    launch(align<T>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call, tables, static_cast<T*>(out), count);
  });
}

void roi_align_backward_cuda(const RoiCall& call, const RoiResult& grad, void* workspace, void* const* grad_inputs,
                             Stream stream) {
  visit_floating(call.problem.dtype, [&](auto map) {
    using T = typename decltype(map)::type;
    const Tables<Compute<T>> tables(call, true, workspace);
    launch_weights(call, tables, true, stream);
    for (int64_t l = 0; l < call.problem.level_count; ++l) {
      const RoiLevel& level = call.levels[l];
      const int64_t count = call.problem.batch * call.problem.channels * level.height * level.width;
      launch(align_backward<T>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call, tables, grad, l,
             static_cast<T*>(grad_inputs[l]), count);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
