// The order in which RoIs, or the rows of their bins, are worked on: those of a map together, and those that begin in
// the same rows of it near each other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace visionops {

enum class RoiPass { forward, backward };

struct RoiOrder {
  std::vector<int64_t> order;  // numbers by map, then by first row, then ascending; those of map -1 last
  std::vector<int64_t> begin;  // those of map m are [begin[m], begin[m + 1]) of the order

  /// Of the numbers [0, count): map_of(i) is in [-1, maps); row_of(i) is asked for those that have a map.
  template <class MapOf, class RowOf>
  void build(int64_t count, int64_t maps, const MapOf& map_of, const RowOf& row_of) {
    const auto place = [&](int64_t i) { return map_of(i) < 0 ? maps : map_of(i); };
    begin.assign(maps + 2, 0);
    for (int64_t i = 0; i < count; ++i) ++begin[place(i) + 1];
    for (int64_t m = 0; m <= maps; ++m) begin[m + 1] += begin[m];
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    std::vector<std::pair<int64_t, int64_t>> rows(count);
    for (int64_t i = 0; i < count; ++i) rows[next[place(i)]++] = {map_of(i) < 0 ? 0 : int64_t{row_of(i)}, i};
    // What follows each other then shares rows of the map, which are in cache.
    for (int64_t m = 0; m < maps; ++m) std::sort(rows.begin() + begin[m], rows.begin() + begin[m + 1]);
    order.resize(count);
    std::transform(rows.begin(), rows.end(), order.begin(), [](const auto& row) { return row.second; });
  }
};

}  // namespace visionops
