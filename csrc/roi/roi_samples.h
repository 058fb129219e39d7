// Lists the samples of all RoIs, which roi_align_max.h describes.
#pragma once

#include <stdexcept>
#include <vector>

#include "roi/roi_align_max.h"
#include "roi/roi_box.h"
#include "roi/roi_order.h"

namespace visionops {

class RoiSampleTable {
 public:
  explicit RoiSampleTable(const RoiProblem& problem) : problem_(problem), rois_(problem.rois) {
    std::vector<Place> places(problem.rois);
    host::visit_floating(problem.boxes_dtype, [&](auto box) {
      using B = typename decltype(box)::type;
      const B* const boxes = static_cast<const B*>(problem.boxes);
      for (int64_t k = 0; k < problem.rois; ++k) places[k] = list(host::load_roi(boxes + 5 * k));
    });
    // The arrays are complete: now they can be pointed at.
    for (int64_t k = 0; k < problem.rois; ++k) {
      rois_[k] = {places[k].map, axis_at(places[k].y), axis_at(places[k].x)};
    }
    order_.build(
        problem.rois, problem.batch, [&](int64_t k) { return rois_[k].map; },
        [&](int64_t k) { return rois_[k].y.samples[0].low; });
    table_ = {rois_.data(), order_.order.data(), order_.begin.data()};
  }

  const RoiSamplesTable& table() const { return table_; }

 private:
  struct AxisPlace {
    size_t begin = 0, samples = 0;
    double grid = 0;
  };
  struct Place {
    int64_t map = -1;
    AxisPlace y, x;
  };

  Place list(const host::RoiBox& box) {
    Place place;
    if (!box.is_finite()) return place;
    if (!box.has_image(problem_.batch)) throw std::invalid_argument(host::kNoSuchImage);
    const RoiLevel& level = problem_.levels[0];
    const bool on_map = list(box.y1, box.y2, problem_.pooled_height, level.height, place.y) &&
                        list(box.x1, box.x2, problem_.pooled_width, level.width, place.x);
    if (on_map) place.map = static_cast<int64_t>(box.image);
    return place;
  }

  /// Whether any sample is on the map.
  bool list(double low, double high, int64_t bins, int64_t size, AxisPlace& place) {
    const host::AlignAxis axis = host::align_axis(low, high, problem_.levels[0].spatial_scale, problem_.aligned, bins,
                                                  problem_.sampling_ratio, size);
    place = {begin_.size(), samples_.size(), axis.grid};
    if (!axis.is_valid()) return false;
    for (int64_t bin = 0; bin < bins; ++bin) {
      begin_.push_back(static_cast<int32_t>(samples_.size() - place.samples));
      const host::SampleRange range = host::samples_near(axis, bin);
      for (double i = range.first; i < range.last; ++i) {
        RoiSample sample;
        if (host::sample_at(axis.position(bin, i), size, sample)) samples_.push_back(sample);
      }
    }
    begin_.push_back(static_cast<int32_t>(samples_.size() - place.samples));
    return samples_.size() > place.samples;
  }

  RoiAxisSamples axis_at(const AxisPlace& place) const {
    return {begin_.data() + place.begin, samples_.data() + place.samples, place.grid};
  }

  const RoiProblem& problem_;
  std::vector<RoiSamples> rois_;
  std::vector<int32_t> begin_;
  std::vector<RoiSample> samples_;
  RoiOrder order_;
  RoiSamplesTable table_{};
};

}  // namespace visionops
