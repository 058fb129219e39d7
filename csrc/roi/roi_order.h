// The order in which RoIs are worked on: those of a map together, and those that begin in the same rows near each
// other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace visionops {

struct RoiOrder {
  std::vector<int64_t> order;  // RoIs by map, then by first row, then ascending; those of map -1 last
  std::vector<int64_t> begin;  // those of map m are [begin[m], begin[m + 1]) of the order

  /// map_of(k) is in [-1, maps); row_of(k) is asked for RoIs that have a map.
  template <class MapOf, class RowOf>
  void build(int64_t rois, int64_t maps, const MapOf& map_of, const RowOf& row_of) {
    const auto place = [&](int64_t k) { return map_of(k) < 0 ? maps : map_of(k); };
    begin.assign(maps + 2, 0);
    for (int64_t k = 0; k < rois; ++k) ++begin[place(k) + 1];
    for (int64_t m = 0; m <= maps; ++m) begin[m + 1] += begin[m];
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    order.resize(rois);
    for (int64_t k = 0; k < rois; ++k) order[next[place(k)]++] = k;
    // RoIs that follow each other then share rows of the map, which are in cache.
    for (int64_t m = 0; m < maps; ++m) {
      std::stable_sort(order.begin() + begin[m], order.begin() + begin[m + 1],
                       [&](int64_t a, int64_t b) { return row_of(a) < row_of(b); });
    }
  }
};

}  // namespace visionops
