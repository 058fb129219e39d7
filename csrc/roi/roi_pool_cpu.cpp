// RoIPool on the CPU, forward: the maximum over a bin's rows first, with vectors over columns or channels.
#include <limits>

#include "roi/lanes.h"
#include "roi/roi_folds.h"
#include "roi/roi_items.h"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// What maxima are taken of: numbers, or a NaN as well, which is the greatest.
enum class Among { numbers, all };

/// The greater lane by lane; the first of equal ones stays.
template <Among among, class C>
VISIONOPS_INLINE Lanes<C> greater(const Lanes<C>& most, const Lanes<C>& value) {
  if constexpr (among == Among::numbers) return value > most ? value : most;
  return ((value > most) | (value != value)) ? value : most;
}

/// One RoI over planes of the map: what does not depend on the channel.
template <class T>
struct PlaneWindow {
  using C = Compute<T>;
  static constexpr C kInfinity = std::numeric_limits<C>::infinity();

  const RoiProblem& problem;
  const RoiBins& roi;
  int64_t left, right;  // columns from the first bin's to the last one's
  int64_t row_stride;
  bool has_folds, has_empty_bins;
  Folds<C> folds;
  C* rows;           // (pooled_height, row_stride): the greatest of each column in a bin's rows
  C* narrow_result;  // (pooled_height, pooled_width), before it is narrowed

  PlaneWindow(const RoiProblem& problem, const RoiBins& roi, void* memory)
      : problem(problem), roi(roi), left(roi.column_begin[0]), right(roi.column_end[problem.pooled_width - 1]) {
    row_stride = padded(problem.levels[0].width);
    rows = static_cast<C*>(memory);
    narrow_result = rows + problem.pooled_height * row_stride;
    has_folds = folds.build(roi, problem.pooled_width);
    has_empty_bins = false;
    for (int64_t p = 0; p < problem.pooled_height; ++p) has_empty_bins |= roi.row_begin[p] >= roi.row_end[p];
    for (int64_t q = 0; q < problem.pooled_width; ++q) has_empty_bins |= roi.column_begin[q] >= roi.column_end[q];
  }

  static int64_t padded(int64_t count) { return (count + kLanes<C> - 1) / kLanes<C> * kLanes<C>; }

  static int64_t bytes(const RoiProblem& problem) {
    const int64_t values = problem.pooled_height * (padded(problem.levels[0].width) + problem.pooled_width);
    return values * int64_t{sizeof(C)};
  }

  /// Fills `rows`; returns whether there is no NaN, if it is not told that there may be.
  template <Among among>
  bool take_rows(const T* plane) const {
    const int64_t width = problem.levels[0].width;
    // A NaN in a sum stays. Infinities may make one as well: then more is done than needed.
    Lanes<C> all{};
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const int64_t first = roi.row_begin[p], last = roi.row_end[p];
      if (first >= last) continue;
      C* const row = rows + p * row_stride;
      for (int64_t x = left; x < right; x += kLanes<C>) {
        const int count = static_cast<int>(right - x < kLanes<C> ? right - x : kLanes<C>);
        const T* from = plane + first * width + x;
        Lanes<C> most = load(from, count), sum = most;
        for (int64_t y = first + 1; y < last; ++y) {
          const Lanes<C> value = load(from += width, count);
          most = greater<among, C>(most, value);
          sum += value;
        }
        all += sum;
        store(row + x - left, most);
      }
    }
    return among == Among::all || !any_nan<C>(all);
  }

  /// Bins [p, p + count) by lanes over bins of a row.
  template <int count>
  void fold_columns(int64_t p, C* result) const {
    const Lanes<C> none = all_lanes(-kInfinity);
    Lanes<C> most[count];
    for (int i = 0; i < count; ++i) most[i] = none;
    for (const Fold<C>& fold : folds) {
      for (int i = 0; i < count; ++i) {
        const Lanes<C> value = folded<C>(rows + (p + i) * row_stride, fold, none);
        most[i] = greater<Among::numbers, C>(most[i], value);
      }
    }
    const int bins = static_cast<int>(problem.pooled_width);
    for (int i = 0; i < count; ++i) store(result + (p + i) * bins, most[i], bins);
  }

  template <Among among>
  void take_columns_of_each_bin(C* result) const {
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const C* const row = rows + p * row_stride - left;
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        C most = -kInfinity;
        for (int64_t x = roi.column_begin[q]; x < roi.column_end[q]; ++x) {
          const bool is_nan = among == Among::all && row[x] != row[x];
          most = row[x] > most || is_nan ? row[x] : most;
        }
        *result++ = most;
      }
    }
  }

  void prefetch(const T* plane) const {
    const int64_t height = problem.pooled_height;
    prefetch_window(plane, problem.levels[0].width, roi.row_begin[0], roi.row_end[height - 1], left, right);
  }

  void pool(const T* plane, T* out) const {
    C* result = narrow_result;
    if constexpr (std::is_same_v<T, C>) result = out;
    if (!take_rows<Among::numbers>(plane)) {
      take_rows<Among::all>(plane);
      take_columns_of_each_bin<Among::all>(result);
    } else if (has_folds) {
      int64_t p = 0;
      for (; p + 7 <= problem.pooled_height; p += 7) fold_columns<7>(p, result);
      for (; p < problem.pooled_height; ++p) fold_columns<1>(p, result);
    } else {
      take_columns_of_each_bin<Among::numbers>(result);
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

template <class T>
void pool_planes(const RoiProblem& problem, const RoiBinsTable& table, T* out, void* scratch, int64_t begin,
                 int64_t end) {
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  visit_planes(problem, table, out, begin, end,
               [&](const RoiBins& roi, const T* plane, int64_t size, int64_t planes, T* to) {
                 const PlaneWindow<T> window(problem, roi, scratch);
                 for (int64_t c = 0; c < planes; ++c) {
                   if (c + 1 < planes) window.prefetch(plane + (c + 1) * size);
                   window.pool(plane + c * size, to + c * bins);
                 }
               });
}

/// A row of bins, channels [0, (vectors - 1) lanes + tail) from those that `image` and `out` point at; returns whether
/// there is no NaN, if it is not told that there may be.
template <Among among, int vectors, class T>
bool pool_pixels(const RoiProblem& problem, const RoiBins& roi, const T* image, int64_t p, int tail, T* out,
                 Compute<T>* columns) {
  using C = Compute<T>;
  constexpr int64_t stride = vectors * kLanes<C>;
  const int64_t row_size = problem.levels[0].width * problem.channels;
  const int64_t first = roi.row_begin[p], last = roi.row_end[p];
  const int64_t left = roi.column_begin[0], right = roi.column_end[problem.pooled_width - 1];
  Lanes<C> most[vectors], sum{};
  for (int64_t x = left; x < right; ++x) {
    const T* pixel = image + first * row_size + x * problem.channels;
    for (int v = 0; v < vectors; ++v) {
      most[v] = load(pixel + v * kLanes<C>, v + 1 < vectors ? kLanes<C> : tail);
      sum += most[v];
    }
    for (int64_t y = first + 1; y < last; ++y) {
      pixel += row_size;
      for (int v = 0; v < vectors; ++v) {
        const Lanes<C> value = load(pixel + v * kLanes<C>, v + 1 < vectors ? kLanes<C> : tail);
        most[v] = greater<among, C>(most[v], value);
        sum += value;
      }
    }
    for (int v = 0; v < vectors; ++v) store(columns + (x - left) * stride + v * kLanes<C>, most[v]);
  }
  if (among == Among::numbers && any_nan<C>(sum)) return false;
  for (int64_t q = 0; q < problem.pooled_width; ++q, out += problem.channels) {
    const int64_t begin = roi.column_begin[q], end = roi.column_end[q];
    C values[stride] = {};
    if (begin < end) {
      const C* column = columns + (begin - left) * stride;
      for (int v = 0; v < vectors; ++v) most[v] = load(column + v * kLanes<C>);
      for (int64_t x = begin + 1; x < end; ++x) {
        column += stride;
        for (int v = 0; v < vectors; ++v) most[v] = greater<among, C>(most[v], load(column + v * kLanes<C>));
      }
      for (int v = 0; v < vectors; ++v) store(values + v * kLanes<C>, most[v]);
    }
    put(static_cast<const C*>(values), out, (vectors - 1) * kLanes<C> + tail);
  }
  return true;
}

template <class T>
void pool_images(const RoiProblem& problem, const RoiBinsTable& table, T* out, void* scratch, int64_t begin,
                 int64_t end) {
  using C = Compute<T>;
  C* const columns = static_cast<C*>(scratch);
  visit_pixels(problem, table, out, begin, end,
               [&](const RoiBins& roi, int64_t p, const T* image, int64_t channels, T* to) {
                 if (roi.row_begin[p] >= roi.row_end[p]) return false;
                 for (int64_t c = 0; c < channels; c += 4 * kLanes<C>) {
                   with_vectors<C>(channels - c, [&](auto vectors, int tail) {
                     constexpr int n = decltype(vectors)::value;
                     if (!pool_pixels<Among::numbers, n>(problem, roi, image + c, p, tail, to + c, columns)) {
                       pool_pixels<Among::all, n>(problem, roi, image + c, p, tail, to + c, columns);
                     }
                   });
                 }
                 return true;
               });
}

}  // namespace

int64_t roi_pool_items(const RoiProblem& problem) { return forward_items(problem); }

int64_t roi_pool_scratch_bytes(const RoiProblem& problem) {
  int64_t bytes = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = problem.channels_last ? problem.levels[0].width * 4 * int64_t{sizeof(Lanes<Compute<T>>)}
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
