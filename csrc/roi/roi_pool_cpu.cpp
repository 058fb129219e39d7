// RoIPool on the CPU, forward: the maximum over a bin's rows first, with vectors over columns or channels.
#include "roi/roi_pool.h"

#include "roi/lanes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kPlanes = 8;     // channels an item has: their planes stay in cache while all RoIs pass
constexpr int64_t kChannels = 64;  // the same where channels are last

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

/// rows[x] = the greatest of column x in rows [first, last); returns whether one is NaN.
template <class T>
bool greatest_of_rows(const T* plane, int64_t width, int64_t first, int64_t last, const Span& span, Compute<T>* rows) {
  using C = Compute<T>;
  Lanes<C> check{};
  for (int64_t x = span.begin; x < span.end; x += kLanes<C>) {
    const int count = static_cast<int>(span.end - x < kLanes<C> ? span.end - x : kLanes<C>);
    Lanes<C> most = load(plane + first * width + x, count);
    for (int64_t y = first + 1; y < last; ++y) most = greater<C>(most, load(plane + y * width + x, count));
    store(rows + x - span.begin, most);
    check += most != most ? most : Lanes<C>{};
  }
  return any_nan<C>(check);
}

template <bool has_nan, class C>
VISIONOPS_INLINE C greatest(const C* values, int64_t count) {
  C most = values[0];
  for (int64_t i = 1; i < count; ++i) {
    if constexpr (has_nan) {
      most = values[i] > most || values[i] != values[i] ? values[i] : most;
    } else {
      most = values[i] > most ? values[i] : most;
    }
  }
  return most;
}

/// One channel of a RoI. rows has room for a row of the map, result for all bins.
template <class T>
void pool_plane(const RoiProblem& problem, const RoiBins& roi, const T* plane, T* out, Compute<T>* rows,
                Compute<T>* result) {
  using C = Compute<T>;
  const int32_t *begin = roi.column_begin, *end = roi.column_end;
  const Span span = columns_of(problem, roi);
  C* to = result;
  for (int64_t p = 0; p < problem.pooled_height; ++p) {
    const int64_t first = roi.row_begin[p], last = roi.row_end[p];
    const bool has_nan = first < last && greatest_of_rows(plane, problem.levels[0].width, first, last, span, rows);
    for (int64_t q = 0; q < problem.pooled_width; ++q) {
      const int64_t count = end[q] - begin[q];
      const C* const from = rows + begin[q] - span.begin;
      *to++ = first >= last || count <= 0 ? C(0) : has_nan ? greatest<true>(from, count) : greatest<false>(from, count);
    }
  }
  put(static_cast<const C*>(result), out, problem.pooled_height * problem.pooled_width);
}

int64_t row_values(const RoiProblem& problem) { return (problem.levels[0].width + 15) / 16 * 16; }

/// Item i is RoI i % rois of the order and channels from i / rois * kPlanes on.
template <class T>
void pool_planes(const RoiProblem& problem, const RoiBinsTable& table, T* out, void* scratch, int64_t begin,
                 int64_t end) {
  using C = Compute<T>;
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  C* const rows = static_cast<C*>(scratch);
  C* const result = rows + row_values(problem);
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
    const RoiLevel& level = problem.levels[0];
    const int64_t size = level.height * level.width;
    const T* plane = static_cast<const T*>(level.input) + (roi.map * problem.channels + first) * size;
    for (int64_t c = first; c < last; ++c, plane += size, to += bins) {
      pool_plane(problem, roi, plane, to, rows, result);
    }
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
  const int64_t bytes = problem.dtype == DType::f64 ? 8 : 4;
  if (problem.channels_last) return problem.levels[0].width * kChannels * bytes;
  return (row_values(problem) + problem.pooled_height * problem.pooled_width) * bytes;
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
