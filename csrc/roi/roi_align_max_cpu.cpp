// RoIAlign by maximum on the CPU, forward and backward: vectors of samples or of channels; back, where channels are
// first, one value at a time.
#include "roi/roi_align_max_planes.h"
#include "roi/roi_parts.h"

namespace visionops::VISIONOPS_ISA {
namespace {

constexpr int64_t kPlanes = 8;  // channels an item has where channels are first

/// What the kernels compute with, for channels first: one value, and the number of a sample.
template <class T>
struct One {
  using C = Compute<T>;
  using Value = C;
  using Index = int64_t;
  using Number = Index;
  static constexpr int kCount = 1;

  template <class E>
  static VISIONOPS_INLINE Value read(const E* from, int) {
    return to_compute(*from);
  }
  static VISIONOPS_INLINE void write(C* to, Value value, int) { *to = value; }
  static VISIONOPS_INLINE bool any(bool mask) { return mask; }
};

/// The same for channels last.
template <class T>
struct Many {
  using C = Compute<T>;
  using Value = Lanes<C>;
  using Index = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;
  using Number = decltype(Value{} == Value{});
  static constexpr int kCount = kLanes<C>;

  template <class E>
  static VISIONOPS_INLINE Value read(const E* from, int count) {
    return load(from, count);
  }
  static VISIONOPS_INLINE void write(C* to, const Value& value, int count) { store(to, value, count); }
  static VISIONOPS_INLINE bool any(const Number& mask) {
    uint64_t words[kVectorBytes / 8], found = 0;
    memcpy(words, &mask, sizeof words);
    for (const uint64_t word : words) found |= word;
    return found != 0;
  }
};

/// Where the pixels of an image lie, in elements.
struct Layout {
  int64_t row, pixel, channel;
};

Layout layout_of(const RoiProblem& problem, const RoiLevel& level) {
  if (problem.channels_last) return {level.width * problem.channels, problem.channels, 1};
  return {level.width, 1, level.height * level.width};
}

/// The number of a sample, in all lanes.
template <class K>
VISIONOPS_INLINE typename K::Number numbered(int64_t row, int64_t column, int64_t columns) {
  return typename K::Number{} + static_cast<typename K::Index>(row * columns + column);
}

/// The greatest sample of a bin and its number: row samples times column samples, -1 for one on no map.
template <class K, class T>
struct Greatest {
  typename K::Value value{};
  typename K::Number number = typename K::Number{} - 1;

  Greatest(const RoiSamples& roi, int64_t p, int64_t q, const T* image, const Layout& layout, int count) {
    using C = typename K::C;
    const int32_t rows = roi.y.begin[p + 1] - roi.y.begin[p], columns = roi.x.begin[q + 1] - roi.x.begin[q];
    const bool all_on_map = static_cast<double>(rows) == roi.y.grid && static_cast<double>(columns) == roi.x.grid;
    for (int32_t i = 0; i < rows; ++i) {
      const RoiSample& y = roi.y.samples[roi.y.begin[p] + i];
      const T* const low = image + y.low * layout.row;
      const T* const high = image + y.high * layout.row;
      for (int32_t j = 0; j < columns; ++j) {
        const RoiSample& x = roi.x.samples[roi.x.begin[q] + j];
        const int64_t left = x.low * layout.pixel, right = x.high * layout.pixel;
        const auto fraction = below_one<C>(x.fraction);
        const auto sample = between(between(K::read(low + left, count), K::read(low + right, count), fraction),
                                    between(K::read(high + left, count), K::read(high + right, count), fraction),
                                    below_one<C>(y.fraction));
        const auto first = static_cast<typename K::Index>(all_on_map && i == 0 && j == 0);
        const auto is_first_nan = (sample != sample) & (value == value);
        const auto take = (sample > value) | is_first_nan | (typename K::Number{} != first);
        value = take ? sample : value;
        number = take ? numbered<K>(i, j, columns) : number;
      }
    }
  }
};

/// Calls run(kind, lanes, offset of the first channel) for all channels [begin, end).
template <class T, class Run>
void visit_channels(const RoiProblem& problem, int64_t begin, int64_t end, const Run& run) {
  if (problem.channels_last) {
    for (int64_t c = begin; c < end; c += Many<T>::kCount) {
      run(Many<T>{}, static_cast<int>(end - c < Many<T>::kCount ? end - c : Many<T>::kCount), c);
    }
  } else {
    for (int64_t c = begin; c < end; ++c) run(One<T>{}, 1, c);
  }
}

/// Item i is RoI i % rois of the order and a block of channels.
template <class T>
void align_max(const RoiProblem& problem, const RoiSamplesTable& table, T* out, int64_t begin, int64_t end) {
  const int64_t block = problem.channels_last ? kChannels : kPlanes;
  const RoiLevel& level = problem.levels[0];
  const Layout layout = layout_of(problem, level);
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t k = table.order[item % problem.rois];
    const int64_t first = item / problem.rois * block;
    const int64_t last = first + block < problem.channels ? first + block : problem.channels;
    const RoiSamples& roi = table.rois[k];
    const T* const image = static_cast<const T*>(level.input) +
                           (roi.map < 0 ? 0 : roi.map) * level.height * level.width * problem.channels;
    if (!problem.channels_last) {
      T* const to = out + (k * problem.channels + first) * bins;
      if (roi.map < 0) {
        memset(to, 0, static_cast<size_t>((last - first) * bins) * sizeof(T));
      } else {
        align_max_planes(problem, roi, image + first * layout.channel, last - first, to);
      }
      continue;
    }
    using K = Many<T>;
    for (int64_t c = first; c < last; c += K::kCount) {
      const int count = static_cast<int>(last - c < K::kCount ? last - c : K::kCount);
      for (int64_t bin = 0; bin < bins; ++bin) {
        typename K::C values[K::kCount] = {};
        if (roi.map >= 0) {
          const Greatest<K, T> greatest(roi, bin / problem.pooled_width, bin % problem.pooled_width, image + c, layout,
                                        count);
          K::write(values, greatest.value, count);
        }
        put(static_cast<const typename K::C*>(values), out + (k * bins + bin) * problem.channels + c, count);
      }
    }
  }
}

template <class T>
struct MaxScratch {
  using C = Compute<T>;

  C* sums;
  C* grad;  // (pooled_width, kCount) of one channel or vector
  int64_t bytes;

  MaxScratch(const RoiProblem& problem, void* base) {
    const int64_t sum_values = sum_bytes<T>(problem) / int64_t{sizeof(C)};
    sums = static_cast<C*>(base);
    grad = sums + sum_values;
    bytes = (sum_values + problem.pooled_width * Many<T>::kCount) * int64_t{sizeof(C)};
  }
};

/// Adds a bin's gradient to the rows of a part, `sums` being where the image's first pixel would lie.
template <class K, class T>
void add_bin(const RoiSamples& roi, int64_t p, int64_t q, const Greatest<K, T>& greatest, const typename K::Value& grad,
             const Part& part, const Layout& sum_layout, int count, typename K::C* sums) {
  using C = typename K::C;
  const int32_t columns = roi.x.begin[q + 1] - roi.x.begin[q];
  const auto add = [&](int32_t y, int32_t x, C weight, const auto& mask) {
    if (weight == 0 || y < part.row || y >= part.row_end) return;
    C* const to = sums + y * sum_layout.row + x * sum_layout.pixel;
    const typename K::Value before = K::read(static_cast<const C*>(to), count);
    K::write(to, before + (mask ? weight * grad : typename K::Value{}), count);
  };
  for (int32_t i = roi.y.begin[p]; i < roi.y.begin[p + 1]; ++i) {
    const RoiSample& y = roi.y.samples[i];
    if (y.high < part.row || y.low >= part.row_end) continue;
    for (int32_t j = 0; j < columns; ++j) {
      const auto mask = greatest.number == numbered<K>(i - roi.y.begin[p], j, columns);
      if (!K::any(mask)) continue;
      const RoiSample& x = roi.x.samples[roi.x.begin[q] + j];
      const auto below = below_one<C>(y.fraction), beside = below_one<C>(x.fraction);
      add(y.low, x.low, (1 - below) * (1 - beside), mask);
      add(y.low, x.high, (1 - below) * beside, mask);
      add(y.high, x.low, below * (1 - beside), mask);
      add(y.high, x.high, below * beside, mask);
    }
  }
}

/// Whether samples of bins [p, p_end) read rows of a part.
bool touches(const RoiAxisSamples& y, int64_t p, int64_t p_end, const Part& part) {
  if (y.begin[p] == y.begin[p_end]) return false;
  const RoiSample &first = y.samples[y.begin[p]], &last = y.samples[y.begin[p_end] - 1];
  // An inverted RoI's samples descend.
  const int32_t low = first.low < last.low ? first.low : last.low;
  const int32_t high = first.high > last.high ? first.high : last.high;
  return low < part.row_end && high >= part.row;
}

template <class T>
void backward_part(const RoiProblem& problem, const RoiSamplesTable& table, const RoiResult& grad, const Part& part,
                   T* grad_input, void* memory) {
  const MaxScratch<T> scratch(problem, memory);
  const PartSums<T> sums(problem, part, grad_input, scratch.sums);
  const Layout layout = layout_of(problem, part.level);
  const Layout sum_layout = {part.level.width * sums.pixel, sums.pixel, sums.channel};
  const T* const image =
      static_cast<const T*>(part.level.input) + part.map * part.level.height * part.level.width * problem.channels;
  for (int64_t i = table.begin[part.map]; i < table.begin[part.map + 1]; ++i) {
    const int64_t k = table.order[i];
    const RoiSamples& roi = table.rois[k];
    if (!touches(roi.y, 0, problem.pooled_height, part)) continue;
    visit_channels<T>(problem, part.channel, part.channel_end, [&](auto kind, int count, int64_t c) {
      using K = decltype(kind);
      for (int64_t p = 0; p < problem.pooled_height; ++p) {
        if (!touches(roi.y, p, p + 1, part)) continue;
        read_bins<T>(problem, grad, k, p, c, count, K::kCount, scratch.grad);
        for (int64_t q = 0; q < problem.pooled_width; ++q) {
          const Greatest<K, T> greatest(roi, p, q, image + c * layout.channel, layout, count);
          typename K::Value of_bin;
          memcpy(&of_bin, scratch.grad + q * K::kCount, sizeof of_bin);
          add_bin<K, T>(roi, p, q, greatest, of_bin, part, sum_layout, count, sums.at(c));
        }
      }
    });
  }
  sums.finish();
}

}  // namespace

int64_t roi_align_max_items(const RoiProblem& problem) {
  return problem.rois * parts_of(problem.channels, problem.channels_last ? kChannels : kPlanes);
}

void roi_align_max(const RoiProblem& problem, const RoiSamplesTable& table, void* out, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    align_max(problem, table, static_cast<T*>(out), begin, end);
  });
}

int64_t roi_align_max_backward_items(const RoiProblem& problem) {
  return Cut(problem, problem.levels[0]).parts(problem);
}

int64_t roi_align_max_backward_scratch_bytes(const RoiProblem& problem) {
  int64_t bytes = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = MaxScratch<T>(problem, nullptr).bytes;
  });
  return bytes;
}

void roi_align_max_backward(const RoiProblem& problem, const RoiSamplesTable& table, const RoiResult& grad,
                            void* grad_input, void* scratch, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t item = begin; item < end; ++item) {
      backward_part(problem, table, grad, part_of(problem, item), static_cast<T*>(grad_input), scratch);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
