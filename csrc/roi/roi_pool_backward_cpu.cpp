// RoIPool on the CPU, backward: each bin's gradient goes to the first of its pixels that is the bin's maximum.
#include "roi/lanes.h"
#include "roi/roi_parts.h"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Scratch of one call: with `base` null only its size.
template <class T>
struct PoolScratch {
  using C = Compute<T>;

  C* sums;
  C* output;  // (pooled_height, pooled_width) of one channel, or of kChannels
  C* grad;
  int64_t bytes;

  PoolScratch(const RoiProblem& problem, void* base) {
    const int64_t values = problem.pooled_height * problem.pooled_width * (problem.channels_last ? kChannels : 1);
    const int64_t sum_values = sum_bytes<T>(problem) / int64_t{sizeof(C)};
    sums = static_cast<C*>(base);
    output = sums + sum_values;
    grad = output + values;
    bytes = (sum_values + 2 * values) * int64_t{sizeof(C)};
  }
};

template <class C>
bool is_same(C value, C most) {
  return value == most || (value != value && most != most);
}

/// Adds the bins of one channel; `sums` is where the plane's first pixel would lie.
template <class T>
void add_to_plane(const RoiProblem& problem, const RoiBins& roi, const Part& part, const T* plane,
                  const PoolScratch<T>& scratch, Compute<T>* sums) {
  using C = Compute<T>;
  const int64_t width = part.level.width;
  const C *output = scratch.output, *grad = scratch.grad;
  for (int64_t p = 0; p < problem.pooled_height; ++p) {
    const int64_t first = roi.row_begin[p], last = roi.row_end[p];
    for (int64_t q = 0; q < problem.pooled_width; ++q, ++output, ++grad) {
      const int64_t begin = roi.column_begin[q], end = roi.column_end[q];
      const C most = *output;
      for (int64_t y = first; y < last && y < part.row_end; ++y) {
        int64_t x = begin;
        while (x < end && !is_same(static_cast<C>(to_compute(plane[y * width + x])), most)) ++x;
        if (x >= end) continue;
        if (y >= part.row) sums[y * width + x] += *grad;
        break;
      }
    }
  }
}

/// Adds the bins of `vectors` vectors of channels, the last of `tail` lanes, of a row of bins.
template <int vectors, class T>
void add_to_pixels(const RoiProblem& problem, const RoiBins& roi, const Part& part, const T* image, int tail,
                   const PoolScratch<T>& scratch, int64_t pixel_size, Compute<T>* sums) {
  using C = Compute<T>;
  constexpr int64_t stride = vectors * kLanes<C>;
  const int64_t width = part.level.width;
  const C *output = scratch.output, *grad = scratch.grad;
  const auto lanes = [&](int v) { return v + 1 < vectors ? kLanes<C> : tail; };
  for (int64_t p = 0; p < problem.pooled_height; ++p) {
    const int64_t first = roi.row_begin[p], last = roi.row_end[p];
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
          read_bins<T>(problem, output, k, c, lanes - kLanes<C> + tail, lanes, scratch.output);
          read_bins<T>(problem, grad, k, c, lanes - kLanes<C> + tail, lanes, scratch.grad);
          add_to_pixels<decltype(vectors)::value>(problem, roi, part, image + c, tail, scratch, sums.pixel, sums.at(c));
        });
      }
    } else {
      for (int64_t c = part.channel; c < part.channel_end; ++c) {
        read_bins<T>(problem, output, k, c, 1, 1, scratch.output);
        read_bins<T>(problem, grad, k, c, 1, 1, scratch.grad);
        add_to_plane<T>(problem, roi, part, image + c * plane, scratch, sums.at(c));
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
