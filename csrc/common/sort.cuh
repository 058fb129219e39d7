// A stable sort of 64-bit keys with 32-bit values on the device: CUB's radix sort, or std::stable_sort when emulated.
#pragma once

#include <cstdint>

#include "common/launch.cuh"

#ifdef VISIONOPS_EMULATION
#include <algorithm>
#include <numeric>
#include <vector>
#else
#include <cub/device/device_radix_sort.cuh>
#endif

namespace visionops::VISIONOPS_ISA {

/// Keys and values in two arrays each: a sort moves them from one to the other as often as it needs.
struct SortBuffers {
  uint64_t* keys;
  uint64_t* spare_keys;
  int32_t* values;
  int32_t* spare_values;
};

#ifdef VISIONOPS_EMULATION

inline int64_t sort_scratch_bytes(int64_t) { return 0; }

inline void sort_pairs(SortBuffers& buffers, void*, int64_t, int64_t count, int bits, Stream) {
  const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  std::vector<int64_t> places(count);
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(),
                   [&](int64_t a, int64_t b) { return (buffers.keys[a] & mask) < (buffers.keys[b] & mask); });
  for (int64_t i = 0; i < count; ++i) {
    buffers.spare_keys[i] = buffers.keys[places[i]];
    buffers.spare_values[i] = buffers.values[places[i]];
  }
  std::swap(buffers.keys, buffers.spare_keys);
  std::swap(buffers.values, buffers.spare_values);
}

#else

/// Bytes of scratch that sort_pairs needs for `count` pairs.
inline int64_t sort_scratch_bytes(int64_t count) {
  size_t bytes = 0;
  cub::DoubleBuffer<uint64_t> keys;
  cub::DoubleBuffer<int32_t> values;
  check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, values, count));
  return static_cast<int64_t>(bytes);
}

/// Sorts by the lowest `bits` bits of the keys, equal ones in the order given. The sorted arrays are keys and values.
inline void sort_pairs(SortBuffers& buffers, void* scratch, int64_t bytes, int64_t count, int bits, Stream stream) {
  size_t size = static_cast<size_t>(bytes);
  cub::DoubleBuffer<uint64_t> keys(buffers.keys, buffers.spare_keys);
  cub::DoubleBuffer<int32_t> values(buffers.values, buffers.spare_values);
  check(cub::DeviceRadixSort::SortPairs(scratch, size, keys, values, count, 0, bits, stream));
  buffers = {keys.Current(), keys.Alternate(), values.Current(), values.Alternate()};
}

#endif

}  // namespace visionops::VISIONOPS_ISA
