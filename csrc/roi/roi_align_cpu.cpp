// RoIAlign by mean on the CPU, forward: rows are summed first, with vectors over columns or channels, then columns.
#include "roi/roi_align.h"

#include "roi/lanes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kPlanes = 8;      // channels an item has: their planes stay in cache while all RoIs pass
constexpr int64_t kChannels = 128;  // the same where channels are last
constexpr int64_t kEight = 8;       // bins of a row that are computed together
#if defined(__AVX512F__)
constexpr int kMostVectors = 8;  // of channels, whose two sums each stay in registers
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

/// Item i is RoI i % rois of the order and channels from i / rois * kPlanes on.
template <class T>
void align_planes(const RoiProblem& problem, const RoiTable& table, T* out, void* scratch, int64_t begin, int64_t end) {
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t k = table.order[item % problem.rois];
    const int64_t first = item / problem.rois * kPlanes;
    const int64_t last = first + kPlanes < problem.channels ? first + kPlanes : problem.channels;
    const RoiWeights& roi = table.rois[k];
    T* to = out + (k * problem.channels + first) * bins;
    if (roi.map < 0) {
      memset(to, 0, static_cast<size_t>((last - first) * bins) * sizeof(T));
      continue;
    }
    const PlaneWindow<T> window(problem, table, roi, scratch);
    const RoiLevel& level = problem.levels[roi.map / problem.batch];
    const int64_t size = level.height * level.width;
    const T* plane = static_cast<const T*>(level.input) + (roi.map % problem.batch * problem.channels + first) * size;
    for (int64_t c = first; c < last; ++c, plane += size, to += bins) window.pool(plane, to);
  }
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
      Lanes<C> of_row[vectors] = {};
      for (int32_t j = roi.x.begin[q]; j < roi.x.begin[q + 1]; ++j) {
        const T* const pixel = row + roi.x.lines[roi.x.other[j]] * problem.channels;
        for (int v = 0; v + 1 < vectors; ++v) of_row[v] += by_column[j] * load(pixel + v * kLanes<C>);
        of_row[vectors - 1] += by_column[j] * load(pixel + (vectors - 1) * kLanes<C>, tail);
      }
      for (int v = 0; v < vectors; ++v) sums[v] += by_row[i] * of_row[v];
    }
    C values[vectors * kLanes<C>];
    for (int v = 0; v < vectors; ++v) store(values + v * kLanes<C>, sums[v]);
    put(static_cast<const C*>(values), out, (vectors - 1) * kLanes<C> + tail);
  }
}

/// Item i is RoI i / (blocks * pooled_height) of the order, a block of kChannels channels and a row of bins.
template <class T>
void align_images(const RoiProblem& problem, const RoiTable& table, T* out, void*, int64_t begin, int64_t end) {
  using C = Compute<T>;
  const int64_t blocks = (problem.channels + kChannels - 1) / kChannels;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t p = item % problem.pooled_height, block = item / problem.pooled_height;
    const int64_t k = table.order[block / blocks];
    const int64_t first = block % blocks * kChannels;
    const int64_t last = first + kChannels < problem.channels ? first + kChannels : problem.channels;
    const RoiWeights& roi = table.rois[k];
    T* to = out + (k * problem.pooled_height + p) * problem.pooled_width * problem.channels + first;
    if (roi.map < 0) {
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        memset(to + q * problem.channels, 0, static_cast<size_t>(last - first) * sizeof(T));
      }
      continue;
    }
    const RoiLevel& level = problem.levels[roi.map / problem.batch];
    const T* const image =
        static_cast<const T*>(level.input) + roi.map % problem.batch * level.height * level.width * problem.channels;
    for (int64_t c = first; c < last;) {
      const T* const from = image + c;
      T* const of_channel = to + c - first;
      if (last - c >= kMostVectors * kLanes<C>) {
        align_pixels<kMostVectors>(problem, roi, level.width, from, p, kLanes<C>, of_channel);
        c += kMostVectors * kLanes<C>;
      } else {
        with_vectors<C>(last - c, [&](auto vectors, int tail) {
          align_pixels<decltype(vectors)::value>(problem, roi, level.width, from, p, tail, of_channel);
        });
        c += 4 * kLanes<C>;
      }
    }
  }
}

}  // namespace

int64_t roi_align_items(const RoiProblem& problem) {
  if (problem.channels_last) {
    return problem.rois * ((problem.channels + kChannels - 1) / kChannels) * problem.pooled_height;
  }
  return problem.rois * ((problem.channels + kPlanes - 1) / kPlanes);
}

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
