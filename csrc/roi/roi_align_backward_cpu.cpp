// RoIAlign by mean on the CPU, backward: to each part of the maps' gradients its RoIs add in a fixed order.
#include "common/lanes.h"
#include "roi/roi_align.h"
#include "roi/roi_parts.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// The lines of an axis that lie in [low, high): [first, last).
struct Lines {
  int32_t first, last;
};

Lines lines_within(const RoiAxisWeights& axis, int64_t low, int64_t high) {
  Lines found = {0, axis.line_count};
  while (found.first < found.last && axis.lines[found.first] < low) ++found.first;
  while (found.last > found.first && axis.lines[found.last - 1] >= high) --found.last;
  return found;
}

// ---- channels first ---------------------------------------------------------------------------------------------

/// The weights of a RoI's columns, 16 or 8 of them at a time, in the bins that they have a part in.
template <class C>
struct ColumnVectors {
  int64_t count;       // of vectors of columns, from the first to the last column
  int64_t columns;     // that they cover
  int32_t* begin;      // (count + 1): entries of each
  int32_t* first_bin;  // (count): that of the first entry; the others follow
  C* weights;          // by entry, a vector each

  void build(const RoiAxisWeights& x) {
    columns = x.lines[x.line_count - 1] - x.lines[0] + 1;
    count = parts_of(columns, kLanes<C>);
    const C* const from = static_cast<const C*>(x.weights);
    int32_t entries = 0, line = 0;
    for (int64_t v = 0; v < count; ++v) {
      begin[v] = entries;
      const int64_t first_column = x.lines[0] + v * kLanes<C>;
      int32_t end = line, lowest = INT32_MAX, highest = -1;
      for (; end < x.line_count && x.lines[end] < first_column + kLanes<C>; ++end) {
        const int32_t low = x.other[x.begin[end]], high = x.other[x.begin[end + 1] - 1];
        lowest = low < lowest ? low : lowest;
        highest = high > highest ? high : highest;
      }
      first_bin[v] = lowest;
      C* const to = weights + int64_t{entries} * kLanes<C>;
      for (int32_t bin = lowest; bin <= highest; ++bin, ++entries) {
        store(weights + int64_t{entries} * kLanes<C>, Lanes<C>{});
      }
      for (; line < end; ++line) {
        for (int32_t i = x.begin[line]; i < x.begin[line + 1]; ++i) {
          to[(x.other[i] - lowest) * kLanes<C> + x.lines[line] - first_column] = from[i];
        }
      }
    }
    begin[count] = entries;
  }
};

/// Scratch of one call: pieces of it, or with `base` null only their sizes.
template <class T>
struct PlaneScratch {
  using C = Compute<T>;

  C* sums;
  C* grad;     // (pooled_height, pooled_width)
  C* columns;  // (pooled_height, column_stride): grad X
  ColumnVectors<C> vectors;
  int64_t column_stride, bytes = 0;

  PlaneScratch(const RoiProblem& problem, const RoiTable& table, void* base) : base_(static_cast<char*>(base)) {
    column_stride = parts_of(table.widest, kLanes<C>) * kLanes<C>;
    sums = take<C>(sum_bytes<T>(problem) / int64_t{sizeof(C)});
    grad = take<C>(problem.pooled_height * problem.pooled_width);
    columns = take<C>(problem.pooled_height * column_stride);
    vectors.begin = take<int32_t>(column_stride / kLanes<C> + 1);
    vectors.first_bin = take<int32_t>(column_stride / kLanes<C>);
    vectors.weights = take<C>(problem.pooled_width * column_stride);
  }

 private:
  template <class E>
  E* take(int64_t count) {
    E* const piece = reinterpret_cast<E*>(base_ + bytes);
    bytes += (count * int64_t{sizeof(E)} + 63) / 64 * 64;
    return piece;
  }

  char* base_;
};

/// columns = grad X, for bins of rows [p, p + count).
template <int count, class C>
VISIONOPS_INLINE void spread_columns(const C* grad, int64_t bins, const ColumnVectors<C>& vectors, int64_t stride,
                                     C* columns) {
  for (int64_t v = 0; v < vectors.count; ++v) {
    Lanes<C> sums[count] = {};
    const C* bin = grad + vectors.first_bin[v];
    for (int32_t e = vectors.begin[v]; e < vectors.begin[v + 1]; ++e, ++bin) {
      const Lanes<C> weights = load(static_cast<const C*>(vectors.weights + int64_t{e} * kLanes<C>));
      for (int i = 0; i < count; ++i) sums[i] += bin[i * bins] * weights;
    }
    for (int i = 0; i < count; ++i) store(columns + i * stride + v * kLanes<C>, sums[i]);
  }
}

/// The same by entries, where 0 times what is not finite would be NaN.
template <class C>
void spread_columns_of_each_bin(const RoiProblem& problem, const RoiAxisWeights& x, const C* grad, int64_t stride,
                                C* columns) {
  const C* const weights = static_cast<const C*>(x.weights);
  for (int64_t p = 0; p < problem.pooled_height; ++p, grad += problem.pooled_width, columns += stride) {
    memset(columns, 0, static_cast<size_t>(stride) * sizeof(C));
    for (int32_t l = 0; l < x.line_count; ++l) {
      for (int32_t i = x.begin[l]; i < x.begin[l + 1]; ++i) {
        columns[x.lines[l] - x.lines[0]] += weights[i] * grad[x.other[i]];
      }
    }
  }
}

template <class C>
bool all_finite(const C* values, int64_t count) {
  Lanes<C> check{};
  for (int64_t i = 0; i < count; i += kLanes<C>) {
    const Lanes<C> some = load(values + i, static_cast<int>(count - i < kLanes<C> ? count - i : kLanes<C>));
    check += some - some;
  }
  return !any_nan<C>(check);
}

/// Adds one RoI to one channel's rows, `to` being where row 0 of the plane would lie.
template <class T>
void add_to_plane(const RoiProblem& problem, const RoiWeights& roi, const Lines& lines, int64_t width,
                  const Compute<T>* grad, const PlaneScratch<T>& scratch, Compute<T>* to) {
  using C = Compute<T>;
  const int64_t height = problem.pooled_height, bins = problem.pooled_width, stride = scratch.column_stride;
  if (all_finite(grad, height * bins)) {
    int64_t p = 0;
    for (; p + 7 <= height; p += 7) {
      spread_columns<7>(grad + p * bins, bins, scratch.vectors, stride, scratch.columns + p * stride);
    }
    for (; p < height; ++p) {
      spread_columns<1>(grad + p * bins, bins, scratch.vectors, stride, scratch.columns + p * stride);
    }
  } else {
    spread_columns_of_each_bin(problem, roi.x, grad, stride, scratch.columns);
  }
  const C* const weights = static_cast<const C*>(roi.y.weights);
  const int64_t columns = scratch.vectors.columns;
  for (int32_t l = lines.first; l < lines.last; ++l) {
    C* const row = to + roi.y.lines[l] * width + roi.x.lines[0];
    for (int64_t x = 0; x < columns; x += kLanes<C>) {
      const int count = static_cast<int>(columns - x < kLanes<C> ? columns - x : kLanes<C>);
      Lanes<C> sum = load(static_cast<const C*>(row + x), count);
      for (int32_t i = roi.y.begin[l]; i < roi.y.begin[l + 1]; ++i) {
        sum += weights[i] * load(static_cast<const C*>(scratch.columns + roi.y.other[i] * stride + x));
      }
      store(row + x, sum, count);
    }
  }
}

template <class T>
void backward_planes(const RoiProblem& problem, const RoiTable& table, const RoiResult& grad, const Part& part,
                     T* grad_input, void* memory) {
  using C = Compute<T>;
  PlaneScratch<T> scratch(problem, table, memory);
  const PartSums<T> sums(problem, part, grad_input, scratch.sums);
  for (int64_t i = table.begin[part.map]; i < table.begin[part.map + 1]; ++i) {
    const int64_t k = table.order[i];
    const RoiWeights& roi = table.rois[k];
    const Lines lines = lines_within(roi.y, part.row, part.row_end);
    if (lines.first == lines.last) continue;
    scratch.vectors.build(roi.x);
    for (int64_t c = part.channel; c < part.channel_end; ++c) {
      const C* const of_channel = bins_of<T>(problem, grad, k, c, scratch.grad);
      add_to_plane<T>(problem, roi, lines, part.level.width, of_channel, scratch, sums.at(c));
    }
  }
  sums.finish();
}

// ---- channels last ----------------------------------------------------------------------------------------------

/// Adds one RoI to rows of pixels, `vectors` vectors of channels each, the last of `tail` lanes. grad is
/// (pooled_height, pooled_width, vectors), row (pooled_width, vectors); `to` is where the image's first pixel would
/// lie.
template <int vectors, class C>
void add_to_pixels(const RoiProblem& problem, const RoiWeights& roi, const Lines& lines, int64_t row_size,
                   int64_t pixel_size, int tail, const C* grad, C* row, C* to) {
  constexpr int64_t stride = vectors * kLanes<C>;
  const C* const by_row = static_cast<const C*>(roi.y.weights);
  const C* const by_column = static_cast<const C*>(roi.x.weights);
  for (int32_t l = lines.first; l < lines.last; ++l) {
    // The bins' gradients as this row weighs them.
    for (int64_t i = 0; i < problem.pooled_width * stride; i += kLanes<C>) {
      Lanes<C> sum{};
      for (int32_t e = roi.y.begin[l]; e < roi.y.begin[l + 1]; ++e) {
        sum += by_row[e] * load(grad + roi.y.other[e] * problem.pooled_width * stride + i);
      }
      store(row + i, sum);
    }
    for (int32_t column = 0; column < roi.x.line_count; ++column) {
      C* const pixel = to + roi.y.lines[l] * row_size + roi.x.lines[column] * pixel_size;
      Lanes<C> sums[vectors];
      for (int v = 0; v < vectors; ++v) {
        sums[v] = load(static_cast<const C*>(pixel + v * kLanes<C>), v + 1 < vectors ? kLanes<C> : tail);
      }
      for (int32_t e = roi.x.begin[column]; e < roi.x.begin[column + 1]; ++e) {
        const C* const bin = row + roi.x.other[e] * stride;
        for (int v = 0; v < vectors; ++v) sums[v] += by_column[e] * load(bin + v * kLanes<C>);
      }
      for (int v = 0; v < vectors; ++v) store(pixel + v * kLanes<C>, sums[v], v + 1 < vectors ? kLanes<C> : tail);
    }
  }
}

template <class T>
struct PixelScratch {
  using C = Compute<T>;

  C* sums;
  C* grad;  // (pooled_height, pooled_width, kChannels)
  C* row;   // (pooled_width, kChannels)
  int64_t bytes;

  PixelScratch(const RoiProblem& problem, void* base) {
    const int64_t row_values = problem.pooled_width * kChannels;
    const int64_t sum_values = sum_bytes<T>(problem) / int64_t{sizeof(C)};
    sums = static_cast<C*>(base);
    grad = sums + sum_values;
    row = grad + problem.pooled_height * row_values;
    bytes = (sum_values + (problem.pooled_height + 1) * row_values) * int64_t{sizeof(C)};
  }
};

template <class T>
void backward_pixels(const RoiProblem& problem, const RoiTable& table, const RoiResult& grad, const Part& part,
                     T* grad_input, void* memory) {
  using C = Compute<T>;
  const PixelScratch<T> scratch(problem, memory);
  const PartSums<T> sums(problem, part, grad_input, scratch.sums);
  const int64_t row_size = part.level.width * sums.pixel;
  for (int64_t i = table.begin[part.map]; i < table.begin[part.map + 1]; ++i) {
    const int64_t k = table.order[i];
    const RoiWeights& roi = table.rois[k];
    const Lines lines = lines_within(roi.y, part.row, part.row_end);
    if (lines.first == lines.last) continue;
    for (int64_t c = part.channel; c < part.channel_end; c += 4 * kLanes<C>) {
      with_vectors<C>(part.channel_end - c, [&](auto vectors, int tail) {
        constexpr int64_t stride = decltype(vectors)::value * kLanes<C>;
        for (int64_t p = 0; p < problem.pooled_height; ++p) {
          const int64_t at = p * problem.pooled_width * stride;
          read_bins<T>(problem, grad, k, p, c, stride - kLanes<C> + tail, stride, scratch.grad + at);
        }
        add_to_pixels<decltype(vectors)::value>(problem, roi, lines, row_size, sums.pixel, tail,
                                                static_cast<const C*>(scratch.grad), scratch.row, sums.at(c));
      });
    }
  }
  sums.finish();
}

}  // namespace

int64_t roi_align_backward_items(const RoiProblem& problem) {
  int64_t items = 0;
  for (int64_t l = 0; l < problem.level_count; ++l) items += Cut(problem, problem.levels[l]).parts(problem);
  return items;
}

int64_t roi_align_backward_scratch_bytes(const RoiProblem& problem, const RoiTable& table) {
  int64_t bytes = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = problem.channels_last ? PixelScratch<T>(problem, nullptr).bytes
                                  : PlaneScratch<T>(problem, table, nullptr).bytes;
  });
  return bytes;
}

void roi_align_backward(const RoiProblem& problem, const RoiTable& table, const RoiResult& grad,
                        void* const* grad_inputs, void* scratch, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t item = begin; item < end; ++item) {
      const Part part = part_of(problem, item);
      const auto run = problem.channels_last ? backward_pixels<T> : backward_planes<T>;
      run(problem, table, grad, part, static_cast<T*>(grad_inputs[part.map / problem.batch]), scratch);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
