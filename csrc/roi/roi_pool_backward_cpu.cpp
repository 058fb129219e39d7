// RoIPool on the CPU, backward: to each part of the map's gradient its RoIs add their bins' in a fixed order.
#include "roi/roi_greater.h"
#include "roi/roi_parts.h"
#include "roi/roi_pool.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Scratch of one call: with `base` null only its size.
template <class T>
struct PoolScratch {
  using C = Compute<T>;

  C* sums;
  C* grad;  // (pooled_height, pooled_width) of one channel, or (pooled_width, kChannels)
  int64_t bytes;

  PoolScratch(const RoiProblem& problem, void* base) {
    const int64_t sum_values = sum_bytes<T>(problem) / int64_t{sizeof(C)};
    sums = static_cast<C*>(base);
    grad = sums + sum_values;
    const int64_t values = problem.pooled_width * (problem.channels_last ? kChannels : problem.pooled_height);
    bytes = (sum_values + values) * int64_t{sizeof(C)};
  }
};

/// One part, and which numbers of pixels it has: argmax may hold any.
template <class T>
struct PoolPart {
  using C = Compute<T>;

  const RoiProblem& problem;
  const Part& part;
  const RoiResult& grad;
  const uint32_t* argmax;
  C* copy;  // of gradients that do not lie as they are added
  PartSums<T> sums;
  uint32_t first, count;

  PoolPart(const RoiProblem& problem, const Part& part, const RoiResult& grad, const uint32_t* argmax, T* grad_input,
           const PoolScratch<T>& scratch)
      : problem(problem),
        part(part),
        grad(grad),
        argmax(argmax),
        copy(scratch.grad),
        sums(problem, part, grad_input, scratch.sums),
        first(static_cast<uint32_t>(part.row * part.level.width)),
        count(static_cast<uint32_t>((part.row_end - part.row) * part.level.width)) {}

  /// Where the part's first pixel of a channel lies.
  C* at(int64_t channel) const { return sums.at(channel) + first * sums.pixel; }

  /// Asks for the bins of a RoI's planes, which lie apart from another's.
  void prefetch_planes(int64_t k) const {
    const int64_t bins = problem.pooled_height * problem.pooled_width;
    const uint32_t* const pixels = argmax + (k * problem.channels + part.channel) * bins;
    const T* const of_bins = static_cast<const T*>(grad.data) + k * grad.strides[0] + part.channel * grad.strides[1];
    for (int64_t i = 0; i < (part.channel_end - part.channel) * bins; i += 16) {
      __builtin_prefetch(pixels + i);
      __builtin_prefetch(of_bins + i);
    }
  }

  void add_to_planes(int64_t k) const {
    const int64_t bins = problem.pooled_height * problem.pooled_width;
    for (int64_t c = part.channel; c < part.channel_end; ++c) {
      const C* const of_bins = bins_of<T>(problem, grad, k, c, copy);
      const uint32_t* const pixels = argmax + (k * problem.channels + c) * bins;
      C* const to = at(c);
      for (int64_t i = 0; i < bins; ++i) {
        const uint32_t pixel = pixels[i] - first;
        if (pixel < count) to[pixel] += of_bins[i];
      }
    }
  }

  void add_to_pixels(int64_t k, const RoiBins& roi) const {
    const int64_t channels = part.channel_end - part.channel;
    for (int64_t p = 0; p < problem.pooled_height; ++p) {
      const int64_t top = roi.row_begin[p] > part.row ? roi.row_begin[p] : part.row;
      const int64_t bottom = roi.row_end[p] < part.row_end ? roi.row_end[p] : part.row_end;
      if (top >= bottom) continue;
      read_bins<T>(problem, grad, k, p, part.channel, channels, kChannels, copy);
      const int64_t row = (k * problem.pooled_height + p) * problem.pooled_width;
      for (int64_t q = 0; q < problem.pooled_width; ++q) {
        const int64_t left = roi.column_begin[q], right = roi.column_end[q];
        const uint32_t* const pixels = argmax + (row + q) * problem.channels + part.channel;
        if ((bottom - top) * (right - left) > kFewPixels) {
          add_bin(pixels, copy + q * kChannels, channels);
          continue;
        }
        for (int64_t c = 0; c < channels; c += 4 * kLanes<C>) {
          with_vectors<C>(channels - c, [&](auto vectors, int tail) {
            add_to_each_pixel<decltype(vectors)::value>(top, bottom, left, right, c, tail, pixels + c,
                                                        copy + q * kChannels + c);
          });
        }
      }
    }
  }

 private:
  static constexpr int64_t kFewPixels = 32;  // of a bin: to ask each is quicker than to go to one by channel

  /// Adds a bin's gradient channel by channel.
  void add_bin(const uint32_t* pixels, const C* of_bin, int64_t channels) const {
    C* const to = at(part.channel);
    for (int64_t c = 0; c < channels; ++c) {
      const uint32_t pixel = pixels[c] - first;
      if (pixel < count) to[pixel * sums.pixel + c] += of_bin[c];
    }
  }

  /// The same by vectors of channels from the part's channel c on, the last of `tail` lanes.
  template <int vectors>
  void add_to_each_pixel(int64_t top, int64_t bottom, int64_t left, int64_t right, int64_t c, int tail,
                         const uint32_t* pixels, const C* of_bin) const {
    const auto lanes = [&](int v) { return v + 1 < vectors ? kLanes<C> : tail; };
    Pixels<C> pixel[vectors];
    Lanes<C> of_vector[vectors];
    for (int v = 0; v < vectors; ++v) {
      pixel[v] = load_pixels<C>(pixels + v * kLanes<C>, lanes(v));
      of_vector[v] = load(of_bin + v * kLanes<C>);
    }
    for (int64_t y = top; y < bottom; ++y) {
      for (int64_t x = left; x < right; ++x) {
        const int64_t number = y * part.level.width + x;
        C* const sum = sums.at(part.channel + c) + number * sums.pixel;
        for (int v = 0; v < vectors; ++v) {
          const Lanes<C> before = load(static_cast<const C*>(sum + v * kLanes<C>), lanes(v));
          const Lanes<C> more = pixel[v] == all_pixels<C>(number) ? of_vector[v] : Lanes<C>{};
          store(sum + v * kLanes<C>, before + more, lanes(v));
        }
      }
    }
  }
};

template <class T>
void backward_part(const RoiProblem& problem, const RoiBinsTable& table, const RoiResult& grad, const uint32_t* argmax,
                   const Part& part, T* grad_input, void* memory) {
  constexpr int64_t kAhead = 4;  // RoIs: as long as memory takes
  const PoolPart<T> to(problem, part, grad, argmax, grad_input, PoolScratch<T>(problem, memory));
  const int64_t end = table.begin[part.map + 1];
  for (int64_t i = table.begin[part.map]; i < end; ++i) {
    const int64_t k = table.order[i];
    const RoiBins& roi = table.rois[k];
    if (!problem.channels_last && i + kAhead < end) to.prefetch_planes(table.order[i + kAhead]);
    if (roi.row_begin[0] >= part.row_end || roi.row_end[problem.pooled_height - 1] <= part.row) continue;
    problem.channels_last ? to.add_to_pixels(k, roi) : to.add_to_planes(k);
  }
  to.sums.finish();
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

void roi_pool_backward(const RoiProblem& problem, const RoiBinsTable& table, const RoiResult& grad,
                       const uint32_t* argmax, void* grad_input, void* scratch, int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t item = begin; item < end; ++item) {
      backward_part(problem, table, grad, argmax, part_of(problem, item), static_cast<T*>(grad_input), scratch);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
