// Computes the pixels of all RoIs' bins, which roi_pool.h describes.
#pragma once

#include <stdexcept>
#include <vector>

#include "roi/roi_box.h"
#include "roi/roi_order.h"
#include "roi/roi_pool.h"

namespace visionops {

class RoiBinTable {
 public:
  RoiBinTable(const RoiProblem& problem, RoiPass pass) : rois_(problem.rois) {
    const int64_t height = problem.pooled_height, width = problem.pooled_width;
    edges_.resize(problem.rois * 2 * (height + width));
    host::visit_floating(problem.boxes_dtype, [&](auto box) {
      using B = typename decltype(box)::type;
      const B* const boxes = static_cast<const B*>(problem.boxes);
      int32_t* edges = edges_.data();
      for (int64_t k = 0; k < problem.rois; ++k, edges += 2 * (height + width)) {
        rois_[k] = {map_of(problem, host::load_roi(boxes + 5 * k), edges), edges, edges + height, edges + 2 * height,
                    edges + 2 * height + width};
      }
    });
    order_.build(
        problem.rois, problem.batch, [&](int64_t k) { return rois_[k].map; },
        [&](int64_t k) { return rois_[k].row_begin[0]; });
    if (problem.channels_last && pass == RoiPass::forward) {
      row_order_.build(
          problem.rois * height, problem.batch, [&](int64_t i) { return rois_[i / height].map; },
          [&](int64_t i) { return rois_[i / height].row_begin[i % height]; });
    }
    if (!problem.channels_last && pass == RoiPass::forward) find_lines_ahead(problem);
    table_ = {rois_.data(), order_.order.data(), order_.begin.data(), row_order_.order.data(), lines_.data()};
  }

  const RoiBinsTable& table() const { return table_; }

 private:
  static int64_t map_of(const RoiProblem& problem, const host::RoiBox& box, int32_t* edges) {
    if (!box.is_finite()) return -1;
    if (!box.has_image(problem.batch)) throw std::invalid_argument(host::kNoSuchImage);
    const RoiLevel& level = problem.levels[0];
    const int64_t height = problem.pooled_height, width = problem.pooled_width;
    const host::PoolAxis y = host::pool_axis(box.y1, box.y2, level.spatial_scale, height, level.height);
    const host::PoolAxis x = host::pool_axis(box.x1, box.x2, level.spatial_scale, width, level.width);
    if (!y.is_valid() || !x.is_valid()) return -1;
    for (int64_t p = 0; p < height; ++p) y.pixels(p, edges[p], edges[height + p]);
    for (int64_t q = 0; q < width; ++q) x.pixels(q, edges[2 * height + q], edges[2 * height + width + q]);
    return static_cast<int64_t>(box.image);
  }

  /// Of each RoI the lines of cache that it is the first to read, for the RoI before it to ask memory for.
  void find_lines_ahead(const RoiProblem& problem) {
    constexpr int64_t kMostLines = 256;  // of a plane: with those of an item's other planes a part of a core's cache
    const int64_t line = 64 / (problem.dtype == DType::f64 ? 8 : problem.dtype == DType::f32 ? 4 : 2);
    const int64_t width = problem.levels[0].width;
    const auto count = [&] { return static_cast<int64_t>(lines_.size()); };
    // RoIs come by their first row: of the rows from there on, earlier ones have read all up to the furthest.
    std::vector<int64_t> furthest(width / line + 1);
    for (int64_t i = 0; i < order_.begin[problem.batch]; ++i) {
      const RoiBins& roi = rois_[order_.order[i]];
      if (i == order_.begin[roi.map]) std::fill(furthest.begin(), furthest.end(), 0);
      const int64_t top = roi.row_begin[0], bottom = roi.row_end[problem.pooled_height - 1];
      const int64_t right = roi.column_end[problem.pooled_width - 1], begin = count();
      for (int64_t l = roi.column_begin[0] / line; l * line < right; ++l) {
        const int64_t first = std::max(top, furthest[l]), left = begin + kMostLines - count();
        for (int64_t y = first; y < std::min(bottom, first + left); ++y) lines_.push_back(y * width + l * line);
        furthest[l] = std::max(furthest[l], bottom);
      }
      if (i == 0) continue;
      RoiBins& before = rois_[order_.order[i - 1]];
      before.lines = begin;
      before.lines_end = count();
    }
  }

  std::vector<RoiBins> rois_;
  std::vector<int32_t> edges_;
  std::vector<int64_t> lines_;
  RoiOrder order_, row_order_;
  RoiBinsTable table_{};
};

}  // namespace visionops
