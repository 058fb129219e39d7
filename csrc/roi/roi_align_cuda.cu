// RoIAlign on a GPU: weights per RoI and axis first, then a thread for each value of the result, of the gradient, or of
// a RoI's part in it.
#include "roi/roi_tables.cuh"

namespace visionops::VISIONOPS_ISA {
namespace {

#ifdef VISIONOPS_EMULATION
constexpr int64_t kBlocks = 200;  // several for a RoI
#else
constexpr int64_t kBlocks = 8192;  // enough for every GPU, however few the RoIs
#endif

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

/// What RoI k gives to the pixel in row y and column x of its window.
template <class T>
__device__ Compute<T> sum_at(const Tables<Compute<T>>& tables, const RoiResult& grad, int64_t k, int64_t channel,
                             int64_t y, int64_t x) {
  using C = Compute<T>;
  const AxisTable<C>&rows = tables.y, &columns = tables.x;
  const int32_t* const row_begin = rows.begin + k * (rows.groups + 1) + y;
  const int32_t* const column_begin = columns.begin + k * (columns.groups + 1) + x;
  C sum = 0;
  for (int64_t r = k * rows.most + row_begin[0]; r < k * rows.most + row_begin[1]; ++r) {
    C of_row = 0;
    for (int64_t c = k * columns.most + column_begin[0]; c < k * columns.most + column_begin[1]; ++c) {
      of_row += columns.weights[c] * value_at<T>(grad, k, channel, rows.other[r], columns.other[c]);
    }
    sum += rows.weights[r] * of_row;
  }
  return sum;
}

/// The gradients' sums of each level.
template <class C>
struct LevelSums {
  C* of_level[kMostLevels];
};

/// Several blocks per RoI, whose threads take turns at the values of its window: what the RoI gives to one is formed
/// first, and added once. A grid constant, or the addresses would be copied to each thread's own memory.
template <class T>
__global__ void add_windows(RoiCall call, Tables<Compute<T>> tables, RoiResult grad,
                            const __grid_constant__ LevelSums<Compute<T>> sums) {
  using C = Compute<T>;
  const RoiProblem& problem = call.problem;
  const int64_t k = blockIdx.x % problem.rois, map = tables.map[k];
  if (map < 0) return;
  const AxisTable<C>&rows = tables.y, &columns = tables.x;
  const int64_t height = rows.count[k], width = columns.count[k], count = height * width * problem.channels;
  const int64_t step = gridDim.x / problem.rois * kRoiThreads;
  const RoiLevel level = call.levels[map / problem.batch];
  C* const to = sums.of_level[map / problem.batch];
  for (int64_t i = blockIdx.x / problem.rois * kRoiThreads + threadIdx.x; i < count; i += step) {
    const Place at = place_of(i, problem.channels, height, width, problem.channels_last);
    const C sum = sum_at<T>(tables, grad, k, at.channel, at.y, at.x);
    const Place pixel = {map % problem.batch, at.channel, rows.first[k] + at.y, columns.first[k] + at.x};
    if (sum != 0) {
      atomicAdd(to + offset_of(pixel, problem.channels, level.height, level.width, problem.channels_last), sum);
    }
  }
}

/// A thread per value of a level's gradient.
template <class T>
__global__ void gather(RoiCall call, Tables<Compute<T>> tables, RoiResult grad, int64_t level_index, T* grad_input,
                       int64_t count) {
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
        sum += sum_at<T>(tables, grad, k, at.channel, y, x);
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

int64_t roi_align_cuda_workspace_bytes(const RoiCall& call) {
  if (call.problem.dtype == DType::f64) return Tables<double>(call, false, nullptr).bytes;
  return Tables<float>(call, false, nullptr).bytes;
}

namespace {

int64_t values_of(const RoiProblem& problem, const RoiLevel& level) {
  return problem.batch * problem.channels * level.height * level.width;
}

template <class T>
void launch_add_windows(const RoiCall& call, const Tables<Compute<T>>& tables, const RoiResult& grad, char* scratch,
                        void* const* grad_inputs, Stream stream) {
  const RoiProblem& problem = call.problem;
  LevelSums<Compute<T>> sums{};
  for (int64_t l = 0; l < problem.level_count; ++l) {
    const int64_t count = values_of(problem, call.levels[l]);
    sums.of_level[l] = zeroed_sums(static_cast<T*>(grad_inputs[l]), scratch, count, stream);
    scratch += sum_bytes<T>(count);
  }
  const int64_t blocks = problem.rois == 0 ? 0 : blocks_of(kBlocks, problem.rois) * problem.rois;
  launch(add_windows<T>, blocks, kRoiThreads, stream, call, tables, grad, sums);
  for (int64_t l = 0; l < problem.level_count; ++l) {
    finish_sums(sums.of_level[l], static_cast<T*>(grad_inputs[l]), values_of(problem, call.levels[l]), stream);
  }
}

}  // namespace

int64_t roi_align_backward_cuda_workspace_bytes(const RoiCall& call, bool deterministic) {
  int64_t bytes = 0;
  visit_floating(call.problem.dtype, [&](auto map) {
    using T = typename decltype(map)::type;
    bytes = Tables<Compute<T>>(call, true, nullptr).bytes;
    for (int64_t l = 0; l < call.problem.level_count && !deterministic; ++l) {
      bytes += sum_bytes<T>(values_of(call.problem, call.levels[l]));
    }
  });
  return bytes;
}

void roi_align_cuda(const RoiCall& call, void* workspace, void* out, Stream stream) {
  visit_floating(call.problem.dtype, [&](auto map) {
    using T = typename decltype(map)::type;
    const Tables<Compute<T>> tables(call, false, workspace);
    launch_weights(call, tables, false, stream);
    const int64_t count = result_values(call.problem);
    launch(align<T>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call, tables, static_cast<T*>(out), count);
  });
}

void roi_align_backward_cuda(const RoiCall& call, const RoiResult& grad, bool deterministic, void* workspace,
                             void* const* grad_inputs, Stream stream) {
  visit_floating(call.problem.dtype, [&](auto map) {
    using T = typename decltype(map)::type;
    const Tables<Compute<T>> tables(call, true, workspace);
    launch_weights(call, tables, true, stream);
    if (!deterministic) {
      launch_add_windows<T>(call, tables, grad, static_cast<char*>(workspace) + tables.bytes, grad_inputs, stream);
      return;
    }
    for (int64_t l = 0; l < call.problem.level_count; ++l) {
      const int64_t count = values_of(call.problem, call.levels[l]);
      launch(gather<T>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call, tables, grad, l,
             static_cast<T*>(grad_inputs[l]), count);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
