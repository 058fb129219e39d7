// Arrays to pointers for room `roi`.
#include "numpy/arrays.h"
#include "roi/roi_run.h"

namespace visionops {
namespace {

// input is (batch, channels, height, width), or (batch, height, width, channels) if channels_last; so is the result.
py::array roi_align_array(const py::array& input, const py::array& boxes, int64_t pooled_height, int64_t pooled_width,
                          double spatial_scale, int64_t sampling_ratio, bool aligned, bool maximum,
                          bool channels_last) {
  const RoiLevel level{input.data(), input.shape(channels_last ? 1 : 2), input.shape(channels_last ? 2 : 3),
                       spatial_scale};
  RoiProblem problem;
  problem.levels = &level;
  problem.level_count = 1;
  problem.batch = input.shape(0);
  problem.channels = input.shape(channels_last ? 3 : 1);
  problem.dtype = dtype_of(input);
  problem.channels_last = channels_last;
  problem.boxes = boxes.data();
  problem.boxes_dtype = dtype_of(boxes);
  problem.rois = boxes.shape(0);
  problem.pooled_height = pooled_height;
  problem.pooled_width = pooled_width;
  problem.sampling_ratio = sampling_ratio;
  problem.aligned = aligned;
  const std::vector<py::ssize_t> sizes =
      channels_last ? std::vector<py::ssize_t>{problem.rois, pooled_height, pooled_width, problem.channels}
                    : std::vector<py::ssize_t>{problem.rois, problem.channels, pooled_height, pooled_width};
  py::array out(input.dtype(), sizes);
  void* data = out.mutable_data();
  py::gil_scoped_release released;
  const auto on_threads = [](int64_t count, int64_t grain, const auto& body) { parallel(count, grain, body); };
  maximum ? run_roi_align_max(problem, data, on_threads) : run_roi_align(problem, data, on_threads);
  return out;
}

}  // namespace

void register_roi(py::module_& m) { m.def("roi_align", &roi_align_array); }

}  // namespace visionops
