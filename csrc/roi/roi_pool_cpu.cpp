// RoIPool on the CPU, forward: the maximum over a bin's rows first, with vectors over columns or channels.
#include <limits>

#include "roi/lanes.h"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kPlanes = 8;     // channels an item has: their planes stay in cache while all RoIs pass
constexpr int64_t kChannels = 64;  // the same where channels are last
constexpr int64_t kEight = 8;      // bins of a row that are computed together

/// The greater lane by lane; a NaN is the greatest, and the first of equal ones stays.
template <class C>
VISIONOPS_INLINE Lanes<C> greater(const Lanes<C>& most, const Lanes<C>& value) {
  return ((value > most) | (value != value)) ? value : most;
}

/// The columns from the first bin's to the last one's.
struct Span {
  int64_t begin, end;
};

Span columns_of(const RoiProblem& problem, const RoiBins& roi) {
  return {roi.column_begin[0], roi.column_end[problem.pooled_width - 1]};
}

/// One RoI over planes of the map: what does not depend on the channel.
template <class T>
struct PlaneWindow {
  using C = Compute<T>;
  static constexpr C kInfinity = std::numeric_limits<C>::infinity();

  const RoiProblem& problem;
  const RoiBins& roi;
  Span span;
  int64_t bins_padded, row_stride;
  bool has_empty_bins;
  C* outside;        // (columns, bins_padded): 0 where a bin has the column, else -infinity
  C* rows;           // (pooled_height, row_stride): the greatest of each column in a bin's rows
  C* narrow_result;  // (pooled_height, pooled_width), before it is narrowed

  PlaneWindow(const RoiProblem& problem, const RoiBins& roi, void* memory)
      : problem(problem), roi(roi), span(columns_of(problem, roi)) {
    bins_padded = padded(problem.pooled_width, kEight);
    row_stride = padded(problem.levels[0].width, kLanes<C>);
    outside = static_cast<C*>(memory);
    rows = outside + problem.levels[0].width * bins_padded;
    narrow_result = rows + problem.pooled_height * row_stride;
    has_empty_bins = false;
    for (int64_t p = 0; p < problem.pooled_height; ++p) has_empty_bins |= roi.row_begin[p] >= roi.row_end[p];
    for (int64_t i = 0; i < (span.end - span.begin) * bins_padded; ++i) outside[i] = -kInfinity;
    for (int64_t q = 0; q < problem.pooled_width; ++q) {
      has_empty_bins |= roi.column_begin[q] >= roi.column_end[q];
      for (int64_t x = roi.column_begin[q]; x < roi.column_end[q]; ++x) {
        outside[(x - span.begin) * bins_padded + q] = 0;
      }
    }
  }

  static int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

  static int64_t bytes(const RoiProblem& problem) {
    const int64_t width = problem.levels[0].width, height = problem.pooled_height;
    const int64_t values = width * padded(problem.pooled_width, kEight) + height * padded(width, kLanes<C>) +
                           height * problem.pooled_width;
    return values * int64_t{sizeof(C)};
  }

  /// Fills `rows`; returns whether all of it is less than infinity.
  bool take_rows(const T* plane) const {
    const int64_t width = problem.levels[0].width;
    Lanes<C> check{};
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const int64_t first = roi.row_begin[p], last = roi.row_end[p];
      C* const row = rows + p * row_stride;
      for (int64_t x = span.begin; x < span.end; x += kLanes<C>) {
        const int count = static_cast<int>(span.end - x < kLanes<C> ? span.end - x : kLanes<C>);
        Lanes<C> most = all_lanes(-kInfinity);
        for (int64_t y = first; y < last; ++y) most = greater<C>(most, load(plane + y * width + x, count));
        store(row + x - span.begin, most);
        check += most < kInfinity ? Lanes<C>{} : most - most;
      }
    }
    return !any_nan<C>(check);
  }

  /// Bins [p, p + count) of all columns by lanes over bins of a row: adding -infinity hides a column from a bin.
  template <int count>
  void take_columns(int64_t p, C* result) const {
    for (int64_t q = 0; q < problem.pooled_width; q += kEight) {
      Eight<C> most[count];
      for (int i = 0; i < count; ++i) most[i] = Eight<C>{} - kInfinity;
      for (int64_t x = 0; x < span.end - span.begin; ++x) {
        Eight<C> hidden;
        memcpy(&hidden, outside + x * bins_padded + q, sizeof hidden);
        for (int i = 0; i < count; ++i) {
          const Eight<C> value = rows[(p + i) * row_stride + x] + hidden;
          most[i] = value > most[i] ? value : most[i];
        }
      }
      const int64_t left = problem.pooled_width - q < kEight ? problem.pooled_width - q : kEight;
      for (int i = 0; i < count; ++i) store_eight<C>(result + (p + i) * problem.pooled_width + q, most[i], left);
    }
  }

  /// The same bin by bin: infinity less infinity would be NaN, and a NaN is the greatest.
  void take_columns_of_each_bin(C* result) const {
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const C* const row = rows + p * row_stride - span.begin;
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        C most = -kInfinity;
        for (int64_t x = roi.column_begin[q]; x < roi.column_end[q]; ++x) {
          most = row[x] > most || row[x] != row[x] ? row[x] : most;
        }
        *result++ = most;
      }
    }
  }

  void pool(const T* plane, T* out) const {
    C* result = narrow_result;
    if constexpr (std::is_same_v<T, C>) result = out;
    if (take_rows(plane)) {
      int64_t p = 0;
      for (; p + 7 <= problem.pooled_height; p += 7) take_columns<7>(p, result);
      for (; p < problem.pooled_height; ++p) take_columns<1>(p, result);
    } else {
      take_columns_of_each_bin(result);
    }
    if (has_empty_bins) {
      for (int64_t p = 0; p < problem.pooled_height; ++p) {
        for (int64_t q = 0; q < problem.pooled_width; ++q) {
          const bool empty = roi.row_begin[p] >= roi.row_end[p] || roi.column_begin[q] >= roi.column_end[q];
          if (empty) result[p * problem.pooled_width + q] = 0;
        }
      }
    }
    if constexpr (!std::is_same_v<T, C>) narrow(result, out, problem.pooled_height * problem.pooled_width);
  }
};

/// Item i is RoI i % rois of the order and channels from i / rois * kPlanes on.
template <class T>
void pool_planes(const RoiProblem& problem, const RoiBinsTable& table, T* out, void* scratch, int64_t begin,
                 int64_t end) {
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t k = table.order[item % problem.rois];
    const int64_t first = item / problem.rois * kPlanes;
    const int64_t last = first + kPlanes < problem.channels ? first + kPlanes : problem.channels;
    const RoiBins& roi = table.rois[k];
    T* to = out + (k * problem.channels + first) * bins;
    if (roi.map < 0) {
      memset(to, 0, static_cast<size_t>((last - first) * bins) * sizeof(T));
      continue;
    }
    const PlaneWindow<T> window(problem, roi, scratch);
    const RoiLevel& level = problem.levels[0];
    const int64_t size = level.height * level.width;
    const T* plane = static_cast<const T*>(level.input) + (roi.map * problem.channels + first) * size;
    for (int64_t c = first; c < last; ++c, plane += size, to += bins) window.pool(plane, to);
  }
}

/// A row of bins, channels [0, (vectors - 1) lanes + tail) from those that `image` and `out` point at.
template <int vectors, class T>
void pool_pixels(const RoiProblem& problem, const RoiBins& roi, const T* image, int64_t p, int tail, T* out,
                 Compute<T>* columns) {
  using C = Compute<T>;
  constexpr int64_t stride = vectors * kLanes<C>;
  const int64_t row_size = problem.levels[0].width * problem.channels;
  const int64_t first = roi.row_begin[p], last = roi.row_end[p];
  const Span span = columns_of(problem, roi);
  Lanes<C> most[vectors];
  for (int64_t x = span.begin; x < span.end; ++x) {
    const T* pixel = image + first * row_size + x * problem.channels;
    for (int v = 0; v < vectors; ++v) most[v] = load(pixel + v * kLanes<C>, v + 1 < vectors ? kLanes<C> : tail);
    for (int64_t y = first + 1; y < last; ++y) {
      pixel += row_size;
      for (int v = 0; v < vectors; ++v) {
        most[v] = greater<C>(most[v], load(pixel + v * kLanes<C>, v + 1 < vectors ? kLanes<C> : tail));
      }
    }
    for (int v = 0; v < vectors; ++v) store(columns + (x - span.begin) * stride + v * kLanes<C>, most[v]);
  }
  for (int64_t q = 0; q < problem.pooled_width; ++q, out += problem.channels) {
    const int64_t begin = roi.column_begin[q], end = roi.column_end[q];
    C values[stride] = {};
    if (begin < end) {
      const C* column = columns + (begin - span.begin) * stride;
      for (int v = 0; v < vectors; ++v) most[v] = load(column + v * kLanes<C>);
      for (int64_t x = begin + 1; x < end; ++x) {
        column += stride;
        for (int v = 0; v < vectors; ++v) {
          most[v] = greater<C>(most[v], load(static_cast<const C*>(column + v * kLanes<C>)));
        }
      }
      for (int v = 0; v < vectors; ++v) store(values + v * kLanes<C>, most[v]);
    }
    put(static_cast<const C*>(values), out, (vectors - 1) * kLanes<C> + tail);
  }
}

/// Item i is RoI i / (blocks * pooled_height) of the order, a block of kChannels channels and a row of bins.
template <class T>
void pool_images(const RoiProblem& problem, const RoiBinsTable& table, T* out, void* scratch, int64_t begin,
                 int64_t end) {
  using C = Compute<T>;
  const RoiLevel& level = problem.levels[0];
  const int64_t blocks = (problem.channels + kChannels - 1) / kChannels;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t p = item % problem.pooled_height, block = item / problem.pooled_height;
    const int64_t k = table.order[block / blocks];
    const int64_t first = block % blocks * kChannels;
    const int64_t last = first + kChannels < problem.channels ? first + kChannels : problem.channels;
    const RoiBins& roi = table.rois[k];
    T* const to = out + (k * problem.pooled_height + p) * problem.pooled_width * problem.channels + first;
    if (roi.map < 0 || roi.row_begin[p] >= roi.row_end[p]) {
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        memset(to + q * problem.channels, 0, static_cast<size_t>(last - first) * sizeof(T));
      }
      continue;
    }
    const T* const image = static_cast<const T*>(level.input) + roi.map * level.height * level.width * problem.channels;
    for (int64_t c = first; c < last; c += 4 * kLanes<C>) {
      with_vectors<C>(last - c, [&](auto vectors, int tail) {
        pool_pixels<decltype(vectors)::value>(problem, roi, image + c, p, tail, to + c - first,
                                              static_cast<C*>(scratch));
      });
    }
  }
}

}  // namespace

int64_t roi_pool_items(const RoiProblem& problem) {
  if (problem.channels_last) {
    return problem.rois * ((problem.channels + kChannels - 1) / kChannels) * problem.pooled_height;
  }
  return problem.rois * ((problem.channels + kPlanes - 1) / kPlanes);
}

int64_t roi_pool_scratch_bytes(const RoiProblem& problem) {
  int64_t bytes = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = problem.channels_last ? problem.levels[0].width * kChannels * int64_t{sizeof(Compute<T>)}
                                  : PlaneWindow<T>::bytes(problem);
  });
  return bytes;
}

void roi_pool(const RoiProblem& problem, const RoiBinsTable& table, void* out, void* scratch, int64_t begin,
              int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = problem.channels_last ? pool_images<T> : pool_planes<T>;
    run(problem, table, static_cast<T*>(out), scratch, begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
