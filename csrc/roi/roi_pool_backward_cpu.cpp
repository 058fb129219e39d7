// RoIPool on the CPU, backward: each bin's gradient goes to the first of its pixels that is the bin's maximum.
#include <limits>

#include "roi/lanes.h"
#include "roi/roi_folds.h"
#include "roi/roi_parts.h"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Scratch of one call: with `base` null only its size.
template <class T>
struct PoolScratch {
  using C = Compute<T>;

  using Row = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;

  C* sums;
  int64_t columns;  // of a window at most, in whole vectors
  // Where the columns of a window are few enough to be folded:
  C* most;          // (pooled_height, columns): of each column in a bin's rows
  Whole<C>* place;  // the same: of its first pixel that is that
  Row* found;       // (pooled_height, kLanes): by bin
  // Where they are not, of one row of bins:
  Row* key;   // of the greatest of each column in a bin's rows
  Row* row;   // that has it
  C* output;  // (pooled_height, pooled_width) of one channel, or of kChannels
  C* grad;
  int64_t bytes;

  PoolScratch(const RoiProblem& problem, void* base) {
    const int64_t height = problem.pooled_height;
    const int64_t values = height * problem.pooled_width * (problem.channels_last ? kChannels : 1);
    const int64_t sum_values = sum_bytes<T>(problem) / int64_t{sizeof(C)};
    columns = parts_of(problem.levels[0].width, kLanes<C>) * kLanes<C>;
    sums = static_cast<C*>(base);
    most = sums + sum_values;
    place = reinterpret_cast<Whole<C>*>(most + height * columns);
    found = reinterpret_cast<Row*>(place) + height * columns;
    key = found + height * kLanes<C>;
    row = key + columns;
    output = reinterpret_cast<C*>(row + columns);
    grad = output + values;
    bytes = (sum_values + height * (2 * columns + kLanes<C>)+2 * columns + 2 * values) * int64_t{sizeof(C)};
  }
};

/// A number that two values share if they are equal, or both NaN: to compare it is quicker.
template <class Key, class C>
VISIONOPS_INLINE Key key_of(C value) {
  const C unsigned_zero = value + C(0);
  Key key;
  memcpy(&key, &unsigned_zero, sizeof key);
  return value != value ? std::numeric_limits<Key>::max() : key;
}

/// Of each column of a bin's rows [first, last): the key of the greatest, and the first row that has it.
template <class T>
void greatest_of_rows(const T* plane, int64_t width, int64_t first, int64_t last, int64_t begin, int64_t end,
                      const PoolScratch<T>& scratch) {
  using C = Compute<T>;
  using Rows = decltype(Lanes<C>{} == Lanes<C>{});
  using Row = typename PoolScratch<T>::Row;
  for (int64_t x = begin; x < end; x += kLanes<C>) {
    const int count = static_cast<int>(end - x < kLanes<C> ? end - x : kLanes<C>);
    Lanes<C> most = load(plane + first * width + x, count);
    Rows row = Rows{} + static_cast<Row>(first);
    for (int64_t y = first + 1; y < last; ++y) {
      const Lanes<C> value = load(plane + y * width + x, count);
      const Rows take = (value > most) | ((value != value) & (most == most));
      most = take ? value : most;
      row = take ? Rows{} + static_cast<Row>(y) : row;
    }
    const Lanes<C> unsigned_zero = most + Lanes<C>{};
    const Rows key = most != most ? Rows{} + std::numeric_limits<Row>::max() : (Rows)unsigned_zero;
    memcpy(scratch.key + x - begin, &key, sizeof key);
    memcpy(scratch.row + x - begin, &row, sizeof row);
  }
}

/// Adds a row of bins, of one channel, that has a NaN or more columns than are quick to fold; `sums` is where the
/// plane's first pixel would lie.
template <class T>
void add_row_of_each_bin(const RoiProblem& problem, const RoiBins& roi, int64_t p, const Part& part, const T* plane,
                         const Compute<T>* output, const Compute<T>* grad, const PoolScratch<T>& scratch,
                         Compute<T>* sums) {
  using Row = typename PoolScratch<T>::Row;
  const int64_t left = roi.column_begin[0], right = roi.column_end[problem.pooled_width - 1];
  greatest_of_rows(plane, part.level.width, roi.row_begin[p], roi.row_end[p], left, right, scratch);
  for (int64_t q = 0; q < problem.pooled_width; ++q) {
    const Row most = key_of<Row>(output[q]);
    // The least row of all columns that have the bin's greatest, and of those in it the least column; no branches.
    uint64_t soonest = ~uint64_t{0};
    for (int64_t x = roi.column_begin[q]; x < roi.column_end[q]; ++x) {
      const uint64_t place = static_cast<uint64_t>(scratch.row[x - left]) << 32 | static_cast<uint64_t>(x);
      const uint64_t other = place | (uint64_t{0} - static_cast<uint64_t>(scratch.key[x - left] != most));
      soonest = other < soonest ? other : soonest;
    }
    const auto row = static_cast<int64_t>(soonest >> 32);
    if (row >= part.row && row < part.row_end) {
      sums[row * part.level.width + static_cast<int64_t>(soonest & 0xffffffffu)] += grad[q];
    }
  }
}

/// One RoI over planes of a part: what does not depend on the channel.
template <class T>
struct PlaneSearch {
  using C = Compute<T>;
  using Row = typename PoolScratch<T>::Row;
  static constexpr Row kNowhere = std::numeric_limits<Row>::max();

  const RoiProblem& problem;
  const RoiBins& roi;
  const Part& part;
  const PoolScratch<T>& scratch;
  int64_t left, columns;  // of the window
  int64_t begin, end;     // rows of bins that the part has pixels of
  bool is_whole, folds_all;
  Folds<C> folds;

  PlaneSearch(const RoiProblem& problem, const RoiBins& roi, const Part& part, const PoolScratch<T>& scratch)
      : problem(problem), roi(roi), part(part), scratch(scratch), left(roi.column_begin[0]) {
    const int64_t height = problem.pooled_height;
    columns = roi.column_end[problem.pooled_width - 1] - left;
    for (begin = 0; begin < height && roi.row_end[begin] <= part.row;) ++begin;
    for (end = height; end > begin && roi.row_begin[end - 1] >= part.row_end;) --end;
    is_whole = roi.row_begin[0] >= part.row && roi.row_end[height - 1] <= part.row_end;
    // Places are numbers of 32 bits.
    const int64_t most_rows = std::numeric_limits<int32_t>::max() / (part.level.width + 1);
    folds_all = roi.row_end[height - 1] - roi.row_begin[0] < most_rows && folds.build(roi, problem.pooled_width);
  }

  template <class E>
  void prefetch(const E* plane) const {
    if (begin >= end) return;
    const int64_t top = roi.row_begin[begin] > part.row ? roi.row_begin[begin] : part.row;
    const int64_t bottom = roi.row_end[end - 1] < part.row_end ? roi.row_end[end - 1] : part.row_end;
    prefetch_window(plane, part.level.width, top, bottom, left, left + columns);
  }

  bool is_empty(int64_t p) const { return roi.row_begin[p] >= roi.row_end[p]; }

  bool has_nan(const C* output) const {
    const int64_t count = problem.pooled_height * problem.pooled_width;
    Lanes<C> sum{};
    for (int64_t i = 0; i < count; i += kLanes<C>) {
      const Lanes<C> some = load(output + i, static_cast<int>(count - i < kLanes<C> ? count - i : kLanes<C>));
      sum += some != some ? some : Lanes<C>{};
    }
    return any_nan<C>(sum);
  }

  /// Of each column of each bin's rows: the greatest, and the place of its first pixel, counted in the order of the
  /// plane from the window's corner. There is no NaN.
  void find_rows(const T* corner) const {
    const int64_t width = part.level.width, top = roi.row_begin[0];
    Whole<C> lane;
    for (int i = 0; i < kLanes<C>; ++i) lane[i] = static_cast<Row>(i);
    for (int64_t p = begin; p < end; ++p) {
      if (is_empty(p)) continue;
      for (int64_t x = 0; x < columns; x += kLanes<C>) {
        const int count = static_cast<int>(columns - x < kLanes<C> ? columns - x : kLanes<C>);
        int64_t first = (roi.row_begin[p] - top) * width + x;
        const int64_t last = (roi.row_end[p] - top) * width;
        Lanes<C> most = load(corner + first, count);
        Whole<C> row = Whole<C>{} + static_cast<Row>(first);
        for (first += width; first < last; first += width) {
          const Lanes<C> value = load(corner + first, count);
          const Whole<C> take = value > most;
          most = take ? value : most;
          row = take ? Whole<C>{} + static_cast<Row>(first) : row;
        }
        store(scratch.most + p * scratch.columns + x, most);
        scratch.place[(p * scratch.columns + x) / kLanes<C>] = row + lane;
      }
    }
  }

  /// Of bins [p, p + count) the places of their first pixels that are `output`, by lanes over bins of a row.
  template <int count>
  void find_bins(int64_t p, const C* output) const {
    const int bins = static_cast<int>(problem.pooled_width);
    const Lanes<C> nan = all_lanes(std::numeric_limits<C>::quiet_NaN());
    Lanes<C> most[count];
    Whole<C> soonest[count];
    for (int i = 0; i < count; ++i) {
      most[i] = load(output + (p + i) * bins, bins);
      soonest[i] = Whole<C>{} + kNowhere;
    }
    for (const Fold<C>& fold : folds) {
      for (int i = 0; i < count; ++i) {
        const int64_t row = (p + i) * scratch.columns;
        const Whole<C> has = folded<C>(scratch.most + row, fold, nan) == most[i];
        const Whole<C> place = has ? folded<C>(scratch.place + row / kLanes<C>, fold) : Whole<C>{} + kNowhere;
        soonest[i] = place < soonest[i] ? place : soonest[i];
      }
    }
    for (int i = 0; i < count; ++i) memcpy(scratch.found + (p + i) * kLanes<C>, &soonest[i], sizeof soonest[i]);
  }

  /// Adds one channel's bins; `sums` is where the plane's first pixel would lie.
  void add(const T* plane, const C* output, const C* grad, C* sums) const {
    const int64_t bins = problem.pooled_width, width = part.level.width;
    const int64_t corner = roi.row_begin[0] * width + left;
    // A NaN in the window is one in the result.
    if (!folds_all || has_nan(output)) {
      for (int64_t p = begin; p < end; ++p) {
        if (is_empty(p)) continue;
        add_row_of_each_bin(problem, roi, p, part, plane, output + p * bins, grad + p * bins, scratch, sums);
      }
      return;
    }
    find_rows(plane + corner);
    int64_t p = begin;
    for (; p + 7 <= end; p += 7) find_bins<7>(p, output);
    for (; p < end; ++p) find_bins<1>(p, output);
    for (p = begin; p < end; ++p) {
      if (is_empty(p)) continue;
      const Row* const places = scratch.found + p * kLanes<C>;
      for (int64_t q = 0; q < bins; ++q) {
        if (places[q] == kNowhere) continue;
        const int64_t row = is_whole ? part.row : roi.row_begin[0] + places[q] / width;
        if (row >= part.row && row < part.row_end) sums[corner + places[q]] += grad[p * bins + q];
      }
    }
  }
};

/// Adds the bins of `vectors` vectors of channels, the last of `tail` lanes, of a row of bins.
template <int vectors, class T>
void add_to_pixels(const RoiProblem& problem, const RoiBins& roi, const Part& part, const T* image, int tail,
                   const PoolScratch<T>& scratch, int64_t pixel_size, Compute<T>* sums) {
  using C = Compute<T>;
  constexpr int64_t stride = vectors * kLanes<C>;
  const int64_t width = part.level.width;
  const auto lanes = [&](int v) { return v + 1 < vectors ? kLanes<C> : tail; };
  for (int64_t p = 0; p < problem.pooled_height; ++p) {
    const int64_t first = roi.row_begin[p], last = roi.row_end[p];
    if (first >= part.row_end || last <= part.row) continue;
    const C* output = scratch.output + p * problem.pooled_width * stride;
    const C* grad = scratch.grad + p * problem.pooled_width * stride;
    for (int64_t q = 0; q < problem.pooled_width; ++q, output += stride, grad += stride) {
      const int64_t begin = roi.column_begin[q], end = roi.column_end[q];
      // What is left of the gradient: 0 once it was added.
      Lanes<C> most[vectors], left[vectors];
      for (int v = 0; v < vectors; ++v) {
        most[v] = load(output + v * kLanes<C>);
        left[v] = load(grad + v * kLanes<C>);
      }
      for (int64_t y = first; y < last && y < part.row_end; ++y) {
        for (int64_t x = begin; x < end; ++x) {
          const T* const pixel = image + (y * width + x) * problem.channels;
          C* const sum = sums + (y * width + x) * pixel_size;
          for (int v = 0; v < vectors; ++v) {
            const Lanes<C> value = load(pixel + v * kLanes<C>, lanes(v));
            const auto same = (value == most[v]) | ((value != value) & (most[v] != most[v]));
            if (y >= part.row) {
              const Lanes<C> before = load(static_cast<const C*>(sum + v * kLanes<C>), lanes(v));
              store(sum + v * kLanes<C>, before + (same ? left[v] : Lanes<C>{}), lanes(v));
            }
            left[v] = same ? Lanes<C>{} : left[v];
          }
        }
      }
    }
  }
}

template <class T>
void backward_part(const RoiProblem& problem, const RoiBinsTable& table, const RoiResult& output, const RoiResult& grad,
                   const Part& part, T* grad_input, void* memory) {
  using C = Compute<T>;
  const PoolScratch<T> scratch(problem, memory);
  const PartSums<T> sums(problem, part, grad_input, scratch.sums);
  const int64_t plane = part.level.height * part.level.width;
  const T* const image = static_cast<const T*>(part.level.input) + part.map * plane * problem.channels;
  for (int64_t i = table.begin[part.map]; i < table.begin[part.map + 1]; ++i) {
    const int64_t k = table.order[i];
    const RoiBins& roi = table.rois[k];
    if (roi.row_begin[0] >= part.row_end || roi.row_end[problem.pooled_height - 1] <= part.row) continue;
    if (problem.channels_last) {
      for (int64_t c = part.channel; c < part.channel_end; c += 4 * kLanes<C>) {
        with_vectors<C>(part.channel_end - c, [&](auto vectors, int tail) {
          constexpr int64_t lanes = decltype(vectors)::value * kLanes<C>;
          for (int64_t p = 0; p < problem.pooled_height; ++p) {
            if (roi.row_begin[p] >= part.row_end || roi.row_end[p] <= part.row) continue;
            const int64_t at = p * problem.pooled_width * lanes, count = lanes - kLanes<C> + tail;
            read_bins<T>(problem, output, k, p, c, count, lanes, scratch.output + at);
            read_bins<T>(problem, grad, k, p, c, count, lanes, scratch.grad + at);
          }
          add_to_pixels<decltype(vectors)::value>(problem, roi, part, image + c, tail, scratch, sums.pixel, sums.at(c));
        });
      }
    } else {
      const PlaneSearch<T> search(problem, roi, part, scratch);
      for (int64_t c = part.channel; c < part.channel_end; ++c) {
        if (c + 1 < part.channel_end) {
          search.prefetch(image + (c + 1) * plane);
          search.prefetch(static_cast<const C*>(sums.at(c + 1)));
        }
        search.add(image + c * plane, bins_of<T>(problem, output, k, c, scratch.output),
                   bins_of<T>(problem, grad, k, c, scratch.grad), sums.at(c));
      }
    }
  }
  sums.finish();
}

}  // namespace

int64_t roi_pool_backward_items(const RoiProblem& problem) { return Cut(problem, problem.levels[0]).parts(problem); }

int64_t roi_pool_backward_scratch_bytes(const RoiProblem& problem) {
  int64_t bytes = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = PoolScratch<T>(problem, nullptr).bytes;
  });
  return bytes;
}

void roi_pool_backward(const RoiProblem& problem, const RoiBinsTable& table, const RoiResult& output,
                       const RoiResult& grad, void* grad_input, void* scratch, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t item = begin; item < end; ++item) {
      backward_part(problem, table, output, grad, part_of(problem, item), static_cast<T*>(grad_input), scratch);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
