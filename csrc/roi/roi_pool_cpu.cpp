// RoIPool on the CPU, forward: the maximum over a bin's rows first, with vectors over columns or channels.
#include "roi/roi_items.h"
#include "roi/roi_pool_planes.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Writes what bins without a pixel have, to `out` and to the same place of argmax.
template <class T, bool finds>
struct Clear {
  const T* out;
  uint32_t* argmax;

  void operator()(T* to, int64_t count) const {
    memset(to, 0, static_cast<size_t>(count) * sizeof(T));
    // The bytes of kNoPixel are all alike.
    if constexpr (finds) memset(argmax + (to - out), 0xff, static_cast<size_t>(count) * sizeof *argmax);
  }
};

template <class T, bool finds>
void pool_planes(const RoiProblem& problem, const RoiBinsTable& table, T* out, uint32_t* argmax, void* scratch,
                 int64_t begin, int64_t end) {
  const int64_t bins = problem.pooled_height * problem.pooled_width;
  visit_planes(
      problem, table, out, begin, end,
      [&](const RoiBins& roi, const T* plane, int64_t size, int64_t planes, T* to) {
        const PlaneWindow<T, finds> window(problem, roi, scratch);
        for (int64_t c = 0; c < planes; ++c, plane += size, to += bins) {
          // To the second level of cache: in the first they would take the place of what is read now.
          for (int64_t i = roi.lines; i < roi.lines_end; ++i) __builtin_prefetch(plane + table.lines[i], 0, 2);
          window.pool(plane, to, finds ? argmax + (to - out) : nullptr);
        }
      },
      Clear<T, finds>{out, argmax});
}

/// Vectors of channels taken together; the rest one by one, for each number of them is a kernel more to compile.
constexpr int kVectors = 4;

/// Scratch of a row of bins: of each column the greatest of some channels, and the first pixels that are that.
template <class T>
struct Columns {
  using C = Compute<T>;

  C* values;
  Pixel<C>* pixels;

  Columns(const RoiProblem& problem, void* memory)
      : values(static_cast<C*>(memory)),
        pixels(reinterpret_cast<Pixel<C>*>(values + problem.levels[0].width * kVectors * kLanes<C>)) {}

  static int64_t bytes(const RoiProblem& problem, bool finds) {
    return problem.levels[0].width * (finds ? 2 : 1) * kVectors * int64_t{sizeof(Lanes<C>)};
  }
};

/// A row of bins, of vectors of channels from those that `image`, `out` and `argmax` point at, a single one of `tail`;
/// returns whether there is no NaN, if it is not told that there may be.
template <Among among, bool finds, int vectors, class T>
bool pool_pixels(const RoiProblem& problem, const RoiBins& roi, const T* image, int64_t p, int tail, T* out,
                 uint32_t* argmax, const Columns<T>& columns) {
  using C = Compute<T>;
  constexpr int64_t stride = vectors * kLanes<C>;
  const int64_t width = problem.levels[0].width, row_size = width * problem.channels;
  const int64_t first = roi.row_begin[p], last = roi.row_end[p];
  const int64_t left = roi.column_begin[0], right = roi.column_end[problem.pooled_width - 1];
  const int lanes = vectors > 1 ? kLanes<C> : tail;
  Lanes<C> most[vectors], sum{};
  Pixels<C> soonest[vectors];
  for (int64_t x = left; x < right; ++x) {
    const T* pixel = image + first * row_size + x * problem.channels;
    for (int v = 0; v < vectors; ++v) {
      most[v] = load(pixel + v * kLanes<C>, lanes);
      soonest[v] = all_pixels<C>(first * width + x);
      sum += most[v];
    }
    for (int64_t y = first + 1; y < last; ++y) {
      pixel += row_size;
      for (int v = 0; v < vectors; ++v) {
        const Lanes<C> value = load(pixel + v * kLanes<C>, lanes);
        const auto take = is_greater<among>(value, most[v]);
        most[v] = take ? value : most[v];
        if constexpr (finds) soonest[v] = take ? all_pixels<C>(y * width + x) : soonest[v];
        sum += value;
      }
    }
    const int64_t to = (x - left) * stride;
    for (int v = 0; v < vectors; ++v) store(columns.values + to + v * kLanes<C>, most[v]);
    if constexpr (finds) memcpy(columns.pixels + to, soonest, sizeof soonest);
  }
  if (among == Among::numbers && any_nan<C>(sum)) return false;
  for (int64_t q = 0; q < problem.pooled_width; ++q, out += problem.channels, argmax += finds ? problem.channels : 0) {
    const int64_t begin = roi.column_begin[q], end = roi.column_end[q];
    C values[stride] = {};
    for (int v = 0; v < vectors; ++v) soonest[v] = all_pixels<C>(kNoPixel);
    if (begin < end) {
      int64_t from = (begin - left) * stride;
      for (int v = 0; v < vectors; ++v) most[v] = load(columns.values + from + v * kLanes<C>);
      if constexpr (finds) memcpy(soonest, columns.pixels + from, sizeof soonest);
      for (int64_t x = begin + 1; x < end; ++x) {
        from += stride;
        for (int v = 0; v < vectors; ++v) {
          const Lanes<C> value = load(columns.values + from + v * kLanes<C>);
          auto take = is_greater<among>(value, most[v]);
          if constexpr (finds) {
            Pixels<C> pixel;
            memcpy(&pixel, columns.pixels + from + v * kLanes<C>, sizeof pixel);
            take |= is_as_great<among>(value, most[v]) & (pixel < soonest[v]);
            soonest[v] = take ? pixel : soonest[v];
          }
          most[v] = take ? value : most[v];
        }
      }
      for (int v = 0; v < vectors; ++v) store(values + v * kLanes<C>, most[v]);
    }
    put(static_cast<const C*>(values), out, (vectors - 1) * kLanes<C> + lanes);
    if constexpr (finds) {
      for (int v = 0; v < vectors; ++v) store_pixels<C>(argmax + v * kLanes<C>, soonest[v], lanes);
    }
  }
  return true;
}

template <class T, bool finds>
void pool_images(const RoiProblem& problem, const RoiBinsTable& table, T* out, uint32_t* argmax, void* scratch,
                 int64_t begin, int64_t end) {
  using C = Compute<T>;
  const Columns<T> columns(problem, scratch);
  visit_pixels(
      problem, table, out, begin, end,
      [&](const RoiBins& roi, int64_t p, const T* image, int64_t channels, T* to) {
        if (roi.row_begin[p] >= roi.row_end[p]) return false;
        uint32_t* const numbers = finds ? argmax + (to - out) : nullptr;
        for (int64_t c = 0; c < channels;) {
          uint32_t* const of_channels = finds ? numbers + c : nullptr;
          const auto is_done = [&](auto kernel, int vectors, int tail) {
            if (!kernel(problem, roi, image + c, p, tail, to + c, of_channels, columns)) return false;
            c += vectors * kLanes<C>;
            return true;
          };
          const auto several = pool_pixels<Among::numbers, finds, kVectors, T>;
          const auto one = pool_pixels<Among::numbers, finds, 1, T>,
                     one_with_nan = pool_pixels<Among::all, finds, 1, T>;
          const int64_t rest = channels - c;
          if (rest >= kVectors * kLanes<C> && is_done(several, kVectors, 0)) continue;
          // Of vectors that have a NaN, which is rare, only the one that it is in takes longer.
          const int tail = static_cast<int>(rest < kLanes<C> ? rest : kLanes<C>);
          if (!is_done(one, 1, tail)) is_done(one_with_nan, 1, tail);
        }
        return true;
      },
      Clear<T, finds>{out, argmax});
}

}  // namespace

int64_t roi_pool_items(const RoiProblem& problem) { return forward_items(problem); }

int64_t roi_pool_scratch_bytes(const RoiProblem& problem, bool with_argmax) {
  int64_t bytes = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = problem.channels_last ? Columns<T>::bytes(problem, with_argmax)
            : with_argmax         ? PlaneWindow<T, true>::bytes(problem)
                                  : PlaneWindow<T, false>::bytes(problem);
  });
  return bytes;
}

void roi_pool(const RoiProblem& problem, const RoiBinsTable& table, void* out, uint32_t* argmax, void* scratch,
              int64_t begin, int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = argmax == nullptr       ? problem.channels_last ? pool_images<T, false> : pool_planes<T, false>
                     : problem.channels_last ? pool_images<T, true>
                                             : pool_planes<T, true>;
    run(problem, table, static_cast<T*>(out), argmax, scratch, begin, end);
  });
}

}  // namespace visionops::VISIONOPS_ISA
