// Builds the weights of all RoIs, which roi_align.h describes, in two passes: count, then fill.
#pragma once

#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "roi/roi_align.h"
#include "roi/roi_box.h"
#include "roi/roi_order.h"

namespace visionops {

class RoiWeightTable {
 public:
  /// parallel(count, grain, body) calls body(begin, end) over [0, count), by tasks of at least `grain` items.
  template <class Parallel>
  RoiWeightTable(const RoiProblem& problem, RoiPass pass, const Parallel& parallel)
      : problem_(problem), by_bin_(pass == RoiPass::forward), rois_(problem.rois), geometry_(problem.rois) {
    host::visit_floating(problem.boxes_dtype, [&](auto box) {
      using B = typename decltype(box)::type;
      const B* const boxes = static_cast<const B*>(problem.boxes);
      parallel(problem.rois, kRoisPerTask, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) measure(host::load_roi(boxes + 5 * k), geometry_[k]);
      });
    });
    lay_out();
    host::visit_floating(problem.dtype, [&](auto map) {
      using C = host::Compute<typename decltype(map)::type>;
      parallel(problem.rois, kRoisPerTask, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) fill<C>(k);
      });
    });
    for (const RoiWeights& roi : rois_) {
      const RoiAxisWeights& x = roi.x;
      if (x.line_count > 0) widest_ = std::max<int64_t>(widest_, x.lines[x.line_count - 1] - x.lines[0] + 1);
    }
    order_.build(
        problem.rois, problem.level_count * problem.batch, [&](int64_t k) { return rois_[k].map; },
        [&](int64_t k) { return rois_[k].y.lines[0]; });
    if (problem.channels_last && pass == RoiPass::forward) {
      const int64_t height = problem.pooled_height;
      row_order_.build(
          problem.rois * height, problem.level_count * problem.batch, [&](int64_t i) { return rois_[i / height].map; },
          [&](int64_t i) { return first_line(rois_[i / height].y, i % height); });
    }
    table_ = {rois_.data(), order_.order.data(), order_.begin.data(), row_order_.order.data(), most_entries_, widest_};
  }

  const RoiTable& table() const { return table_; }

 private:
  static constexpr int64_t kRoisPerTask = 32;

  /// Of a bin; a bin without any has the RoI's.
  static int32_t first_line(const RoiAxisWeights& axis, int64_t bin) {
    return axis.begin[bin] < axis.begin[bin + 1] ? axis.lines[axis.other[axis.begin[bin]]] : axis.lines[0];
  }

  struct Axis {
    host::AlignAxis align;
    int64_t bins = 0, entries = 0;
  };
  struct Geometry {
    Axis y, x;
    int64_t map = -1;
    bool has_image = true;
    int64_t at = 0;  // bytes from the start of memory_
  };

  void measure(const host::RoiBox& box, Geometry& found) const {
    if (!box.is_finite()) return;
    found.has_image = box.has_image(problem_.batch);
    if (!found.has_image) return;
    const int32_t index = host::level_of(box, problem_);
    const RoiLevel& level = problem_.levels[index];
    found.y = measure(box.y1, box.y2, level.spatial_scale, problem_.pooled_height, level.height);
    found.x = measure(box.x1, box.x2, level.spatial_scale, problem_.pooled_width, level.width);
    if (found.y.entries > 0 && found.x.entries > 0) {
      found.map = index * problem_.batch + static_cast<int64_t>(box.image);
    }
  }

  Axis measure(double low, double high, double scale, int64_t bins, int64_t size) const {
    Axis axis{host::align_axis(low, high, scale, problem_.aligned, bins, problem_.sampling_ratio, size), bins};
    if (!axis.align.is_valid()) return axis;
    for (int64_t p = 0; p < bins; ++p) {
      host::visit_weights(axis.align, p, [&](int32_t, double) { ++axis.entries; });
    }
    return axis;
  }

  int64_t groups(const Axis& axis) const { return by_bin_ ? axis.bins : axis.entries; }

  int64_t bytes(const Axis& axis) const {
    const int64_t integers = axis.entries + (groups(axis) + 1) + axis.entries;
    return (integers + 1) / 2 * 8 + axis.entries * int64_t{sizeof(double)};
  }

  void lay_out() {
    int64_t total = 0;
    for (Geometry& g : geometry_) {
      if (!g.has_image) throw std::invalid_argument(host::kNoSuchImage);
      g.at = total;
      if (g.map < 0) continue;
      total += bytes(g.y) + bytes(g.x);
      most_entries_ = std::max({most_entries_, g.y.entries, g.x.entries});
    }
    memory_.reset(new char[static_cast<size_t>(total)]);
  }

  template <class C>
  void fill(int64_t k) {
    const Geometry& g = geometry_[k];
    rois_[k] = {g.map, {}, {}};
    if (g.map < 0) return;
    rois_[k].y = fill<C>(g.y, memory_.get() + g.at);
    rois_[k].x = fill<C>(g.x, memory_.get() + g.at + bytes(g.y));
  }

  template <class C>
  RoiAxisWeights fill(const Axis& axis, char* memory) const {
    const int64_t entries = axis.entries;
    auto* const lines = reinterpret_cast<int32_t*>(memory);
    int32_t* const begin = lines + entries;
    int32_t* const other = begin + groups(axis) + 1;
    auto* const weights = reinterpret_cast<C*>(memory + bytes(axis) - entries * int64_t{sizeof(double)});
    std::vector<int32_t> at;  // by bin, then by entry within it
    at.reserve(static_cast<size_t>(entries));
    std::vector<int32_t> bin_of(static_cast<size_t>(by_bin_ ? 0 : entries));
    std::vector<C> value(static_cast<size_t>(by_bin_ ? 0 : entries));
    for (int64_t p = 0; p < axis.bins; ++p) {
      if (by_bin_) begin[p] = static_cast<int32_t>(at.size());
      host::visit_weights(axis.align, p, [&](int32_t line, double weight) {
        const size_t i = at.size();
        at.push_back(line);
        if (by_bin_) {
          weights[i] = static_cast<C>(weight);
        } else {
          bin_of[i] = static_cast<int32_t>(p);
          value[i] = static_cast<C>(weight);
        }
      });
    }
    std::copy(at.begin(), at.end(), lines);
    std::sort(lines, lines + entries);
    const auto line_count = static_cast<int32_t>(std::unique(lines, lines + entries) - lines);
    const auto place = [&](int32_t line) {
      return static_cast<int32_t>(std::lower_bound(lines, lines + line_count, line) - lines);
    };
    if (by_bin_) {
      begin[axis.bins] = static_cast<int32_t>(entries);
      for (int64_t i = 0; i < entries; ++i) other[i] = place(at[i]);
    } else {
      // A counting sort by line, stable: bins stay in ascending order.
      std::fill(begin, begin + line_count + 1, 0);
      for (int32_t& line : at) ++begin[(line = place(line)) + 1];
      for (int32_t l = 0; l < line_count; ++l) begin[l + 1] += begin[l];
      std::vector<int32_t> next(begin, begin + line_count);
      for (int64_t i = 0; i < entries; ++i) {
        const int32_t to = next[at[i]]++;
        other[to] = bin_of[i];
        weights[to] = value[i];
      }
    }
    return {lines, begin, other, weights, line_count};
  }

  const RoiProblem& problem_;
  bool by_bin_;
  std::vector<RoiWeights> rois_;
  std::vector<Geometry> geometry_;
  RoiOrder order_, row_order_;
  std::unique_ptr<char[]> memory_;
  int64_t most_entries_ = 0, widest_ = 0;
  RoiTable table_{};
};

}  // namespace visionops
