// RoIAlign by mean on the CPU, forward: rows are summed first, with vectors over columns or channels, then columns.
#include "roi/roi_align.h"

#include "common/lanes.h"
#include "roi/roi_items.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kEight = 8;  // bins of a row that are computed together
#if defined(__AVX512F__)
constexpr int kMostVectors = 16;  // of channels, whose sums stay in registers
#else
constexpr int kMostVectors = 4;
#endif

int64_t rounded_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

/// Memory for one call, taken piece by piece.
class Scratch {
 public:
  explicit Scratch(void* memory) : next_(static_cast<char*>(memory)) {}

  template <class E>
  E* take(int64_t count) {
    E* const piece = reinterpret_cast<E*>(next_);
    next_ += bytes<E>(count);
    return piece;
  }

  template <class E>
  static int64_t bytes(int64_t count) {
    return rounded_up(count * int64_t{sizeof(E)}, 64);
  }

 private:
  char* next_;
};

// ---- channels first ---------------------------------------------------------------------------------------------

/// One RoI over planes of one map: what does not depend on the channel.
template <class T>
struct PlaneWindow {
  using C = Compute<T>;

  const RoiProblem& problem;
  const RoiWeights& roi;
  int64_t bins_padded;   // of a row
  int64_t columns;       // from the first to the last
  int64_t row_stride;    // of `rows`
  int64_t* row_offsets;  // by entry of roi.y: from the window's first pixel
  C* dense;              // (column lines, bins_padded): weights of a column in every bin
  C* rows;               // (pooled_height, row_stride): the window's rows, summed into bins
  C* narrow_result;      // (pooled_height, pooled_width), before it is narrowed

  PlaneWindow(const RoiProblem& problem, const RoiTable& table, const RoiWeights& roi, void* memory)
      : problem(problem), roi(roi), bins_padded(rounded_up(problem.pooled_width, kEight)) {
    Scratch scratch(memory);
    row_offsets = scratch.take<int64_t>(table.most_entries);
    dense = scratch.take<C>(table.most_entries * bins_padded);
    row_stride = rounded_up(table.widest, kLanes<C>);
    rows = scratch.take<C>(problem.pooled_height * row_stride);
    narrow_result = scratch.take<C>(problem.pooled_height * problem.pooled_width);
    columns = roi.x.lines[roi.x.line_count - 1] - roi.x.lines[0] + 1;
    const int64_t width = problem.levels[roi.map / problem.batch].width;
    for (int32_t i = 0; i < roi.y.begin[problem.pooled_height]; ++i) {
      row_offsets[i] = roi.y.lines[roi.y.other[i]] * width + roi.x.lines[0];
    }
    memset(dense, 0, static_cast<size_t>(roi.x.line_count * bins_padded) * sizeof(C));
    const C* const weights = static_cast<const C*>(roi.x.weights);
    for (int64_t q = 0; q < problem.pooled_width; ++q) {
      for (int32_t i = roi.x.begin[q]; i < roi.x.begin[q + 1]; ++i) {
        dense[roi.x.other[i] * bins_padded + q] = weights[i];
      }
    }
  }

  static int64_t bytes(const RoiProblem& problem, const RoiTable& table) {
    const int64_t padded = rounded_up(problem.pooled_width, kEight);
    return Scratch::bytes<int64_t>(table.most_entries) + Scratch::bytes<C>(table.most_entries * padded) +
           Scratch::bytes<C>(problem.pooled_height * rounded_up(table.widest, kLanes<C>)) +
           Scratch::bytes<C>(problem.pooled_height * problem.pooled_width);
  }

  /// rows = Y F; returns whether all of it is finite.
  bool sum_rows(const T* plane) const {
    const C* const weights = static_cast<const C*>(roi.y.weights);
    Lanes<C> check{};
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const int32_t first = roi.y.begin[p], last = roi.y.begin[p + 1];
      C* const row = rows + p * row_stride;
      int64_t x = 0;
      for (; columns - x > kLanes<C>; x += 2 * kLanes<C>) {
        const int64_t left = columns - x - kLanes<C>;
        const int count = static_cast<int>(left < kLanes<C> ? left : kLanes<C>);
        Lanes<C> sum0{}, sum1{};
        for (int32_t i = first; i < last; ++i) {
          const T* const from = plane + row_offsets[i] + x;
          sum0 += weights[i] * load(from);
          sum1 += weights[i] * load(from + kLanes<C>, count);
        }
        store(row + x, sum0);
        store(row + x + kLanes<C>, sum1);
        check += (sum0 - sum0) + (sum1 - sum1);
      }
      if (x < columns) {
        Lanes<C> sum{};
        for (int32_t i = first; i < last; ++i) {
          sum += weights[i] * load(plane + row_offsets[i] + x, static_cast<int>(columns - x));
        }
        store(row + x, sum);
        check += sum - sum;
      }
    }
    return !any_nan<C>(check);
  }

  /// result = rows X^T, bins [p, p + count) by lanes over bins of a row. A column weighs 0 in most of them.
  template <int count>
  void sum_columns(int64_t p, C* result) const {
    const C* bases[count];
    for (int i = 0; i < count; ++i) bases[i] = rows + (p + i) * row_stride - roi.x.lines[0];
    for (int64_t q = 0; q < problem.pooled_width; q += kEight) {
      Eight<C> sums[count] = {};
      const C* weight = dense + q;
      for (int32_t l = 0; l < roi.x.line_count; ++l, weight += bins_padded) {
        Eight<C> weights;
        memcpy(&weights, weight, sizeof weights);
        const int64_t column = roi.x.lines[l];
        for (int i = 0; i < count; ++i) sums[i] += bases[i][column] * weights;
      }
      const int64_t left = problem.pooled_width - q < kEight ? problem.pooled_width - q : kEight;
      for (int i = 0; i < count; ++i) store_eight<C>(result + (p + i) * problem.pooled_width + q, sums[i], left);
    }
  }

  /// The same by the entries of each bin: 0 times what is not finite would be NaN.
  void sum_columns_of_each_bin(C* result) const {
    const C* const weights = static_cast<const C*>(roi.x.weights);
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const C* const from = rows + p * row_stride - roi.x.lines[0];
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        C sum = 0;
        for (int32_t i = roi.x.begin[q]; i < roi.x.begin[q + 1]; ++i) {
          sum += weights[i] * from[roi.x.lines[roi.x.other[i]]];
        }
        *result++ = sum;
      }
    }
  }

  void pool(const T* plane, T* out) const {
    C* result = narrow_result;
    if constexpr (std::is_same_v<T, C>) result = out;
    if (sum_rows(plane)) {
      int64_t p = 0;
      for (; p + 7 <= problem.pooled_height; p += 7) sum_columns<7>(p, result);
      for (; p + 3 <= problem.pooled_height; p += 3) sum_columns<3>(p, result);
      for (; p < problem.pooled_height; ++p) sum_columns<1>(p, result);
    } else {
      sum_columns_of_each_bin(result);
    }
    if constexpr (!std::is_same_v<T, C>) narrow(result, out, problem.pooled_height * problem.pooled_width);
  }
};

template <class T>
void align_planes(const RoiProblem& problem, const RoiTable& table, T* out, void* scratch, int64_t begin, int64_t end) {
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  visit_planes(problem, table, out, begin, end,
               [&](const RoiWeights& roi, const T* plane, int64_t size, int64_t planes, T* to) {
                 const PlaneWindow<T> window(problem, table, roi, scratch);
                 for (int64_t c = 0; c < planes; ++c) window.pool(plane + c * size, to + c * bins);
               });
}

// ---- channels last ----------------------------------------------------------------------------------------------

/// One row of bins of a RoI, channels [0, (vectors - 1) lanes + tail) from those that `image` and `out` point at. A bin
/// reads its pixels in the order of memory, into registers.
template <int vectors, class T>
void align_pixels(const RoiProblem& problem, const RoiWeights& roi, int64_t width, const T* image, int64_t p, int tail,
                  T* out) {
  using C = Compute<T>;
  const C* const by_row = static_cast<const C*>(roi.y.weights);
  const C* const by_column = static_cast<const C*>(roi.x.weights);
  for (int64_t q = 0; q < problem.pooled_width; ++q, out += problem.channels) {
    Lanes<C> sums[vectors] = {};
    for (int32_t i = roi.y.begin[p]; i < roi.y.begin[p + 1]; ++i) {
      const T* const row = image + roi.y.lines[roi.y.other[i]] * width * problem.channels;
      for (int32_t j = roi.x.begin[q]; j < roi.x.begin[q + 1]; ++j) {
        const T* const pixel = row + roi.x.lines[roi.x.other[j]] * problem.channels;
        const C weight = by_row[i] * by_column[j];
        for (int v = 0; v + 1 < vectors; ++v) sums[v] += weight * load(pixel + v * kLanes<C>);
        sums[vectors - 1] += weight * load(pixel + (vectors - 1) * kLanes<C>, tail);
      }
    }
    C values[vectors * kLanes<C>];
    for (int v = 0; v < vectors; ++v) store(values + v * kLanes<C>, sums[v]);
    put(static_cast<const C*>(values), out, (vectors - 1) * kLanes<C> + tail);
  }
}

template <class T>
void align_images(const RoiProblem& problem, const RoiTable& table, T* out, void*, int64_t begin, int64_t end) {
  using C = Compute<T>;
  // The last of as many may be a part of one.
  constexpr int64_t whole = (kMostVectors - 1) * kLanes<C>;
  visit_pixels(problem, table, out, begin, end,
               [&](const RoiWeights& roi, int64_t p, const T* image, int64_t channels, T* to) {
                 const int64_t width = level_of_map(problem, roi.map).width;
                 int64_t c = 0;
                 for (; channels - c > whole; c += whole + kLanes<C>) {
                   const int64_t left = channels - c - whole;
                   const int tail = static_cast<int>(left < kLanes<C> ? left : kLanes<C>);
                   align_pixels<kMostVectors>(problem, roi, width, image + c, p, tail, to + c);
                 }
                 for (; c < channels; c += 4 * kLanes<C>) {
                   with_vectors<C>(channels - c, [&](auto vectors, int tail) {
                     align_pixels<decltype(vectors)::value>(problem, roi, width, image + c, p, tail, to + c);
                   });
                 }
                 return true;
               });
}

}  // namespace

int64_t roi_align_items(const RoiProblem& problem) { return forward_items(problem); }

int64_t roi_align_scratch_bytes(const RoiProblem& problem, const RoiTable& table) {
  int64_t bytes = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = problem.channels_last ? 0 : PlaneWindow<T>::bytes(problem, table);
  });
  return bytes;
}

void roi_align(const RoiProblem& problem, const RoiTable& table, void* out, void* scratch, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = problem.channels_last ? align_images<T> : align_planes<T>;
    run(problem, table, static_cast<T*>(out), scratch, begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
