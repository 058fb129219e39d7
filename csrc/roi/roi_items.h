// How the forward passes on the CPU divide their work: into items of a RoI, or a row of its bins, and some channels.
#pragma once

#include "common/lanes.h"
#include "roi/roi.h"

namespace visionops::VISIONOPS_ISA {

constexpr int64_t kItemPlanes = 8;      // channels of an item: their planes stay in cache while all RoIs pass
constexpr int64_t kItemChannels = 256;  // the same where channels are last

inline int64_t forward_items(const RoiProblem& problem) {
  if (!problem.channels_last) return problem.rois * ((problem.channels + kItemPlanes - 1) / kItemPlanes);
  return problem.rois * problem.pooled_height * ((problem.channels + kItemChannels - 1) / kItemChannels);
}

inline const RoiLevel& level_of_map(const RoiProblem& problem, int64_t map) {
  return problem.levels[map / problem.batch];
}

/// Writes what empty RoIs have.
struct Zeros {
  template <class T>
  void operator()(T* to, int64_t count) const {
    memset(to, 0, static_cast<size_t>(count) * sizeof(T));
  }
};

/// Channels first. Item i is RoI i % rois of the order and some planes: calls pool(roi, plane, next plane's distance,
/// planes, out), and clear(out, values) for empty RoIs.
template <class T, class Table, class Pool, class Clear = Zeros>
void visit_planes(const RoiProblem& problem, const Table& table, T* out, int64_t begin, int64_t end, const Pool& pool,
                  const Clear& clear = {}) {
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t k = table.order[item % problem.rois];
    const int64_t first = item / problem.rois * kItemPlanes;
    const int64_t left = problem.channels - first, planes = left < kItemPlanes ? left : kItemPlanes;
    const auto& roi = table.rois[k];
    T* const to = out + (k * problem.channels + first) * bins;
    if (roi.map < 0) {
      clear(to, planes * bins);
      continue;
    }
    const RoiLevel& level = level_of_map(problem, roi.map);
    const int64_t size = level.height * level.width;
    const int64_t channel = roi.map % problem.batch * problem.channels + first;
    pool(roi, static_cast<const T*>(level.input) + channel * size, size, planes, to);
  }
}

/// Channels last. Item i is row of bins i % rows of the order and a block of channels: calls pool(roi, p, image,
/// channels, out), both from the first of these channels, and clear(out, channels) of each bin for empty RoIs or where
/// that is false.
template <class T, class Table, class Pool, class Clear = Zeros>
void visit_pixels(const RoiProblem& problem, const Table& table, T* out, int64_t begin, int64_t end, const Pool& pool,
                  const Clear& clear = {}) {
  const int64_t rows = problem.rois * problem.pooled_height;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = table.row_order[item % rows], first = item / rows * kItemChannels;
    const int64_t left = problem.channels - first, channels = left < kItemChannels ? left : kItemChannels;
    const auto& roi = table.rois[row / problem.pooled_height];
    T* const to = out + row * problem.pooled_width * problem.channels + first;
    bool is_empty = roi.map < 0;
    if (!is_empty) {
      const RoiLevel& level = level_of_map(problem, roi.map);
      const int64_t image = roi.map % problem.batch * level.height * level.width * problem.channels;
      const T* const from = static_cast<const T*>(level.input) + image + first;
      is_empty = !pool(roi, row % problem.pooled_height, from, channels, to);
    }
    for (int64_t q = 0; q < problem.pooled_width && is_empty; ++q) clear(to + q * problem.channels, channels);
  }
}

}  // namespace visionops::VISIONOPS_ISA
