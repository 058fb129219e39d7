// RoIPool and RoIAlign by maximum on a GPU, by a rule for each: a thread for each value of the result, or of the
// gradient.
#pragma once

#include "roi/roi_gather.cuh"

namespace visionops::VISIONOPS_ISA {

// A Rule<T, B>, for maps of T and boxes of B, has
//   Axis, Where                  how a RoI is divided along an axis; where a bin's greatest is, if anywhere
//   roi(call, k)                 the RoI, a GreatestRoi
//   find(call, roi, bin, place)  the greatest of a bin, and its place
//   rows(call, roi)              the rows [first, last) that it may give a gradient to
//   bins(axis, count, pixel)     the bins [first, last) along an axis that may have their greatest at a pixel
//   weight(level, place, y, x)   what part of a bin's gradient goes to a pixel
//   visit(level, place, add)     calls add(y, x, part) for the pixels that have one

template <class Axis>
struct GreatestRoi {
  int64_t image;  // -1: the RoI is empty
  Axis y, x;
};

/// Along an axis, or of rows: [first, last).
struct Range {
  int64_t first, last;
};

/// A thread per value of the result; `places` may be null.
template <class Rule, class T>
__global__ void take_greatest(RoiCall call, T* out, typename Rule::Where* places, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const Place bin = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last);
  typename Rule::Where place;
  out[i] = from_compute<T>(Rule::find(call, Rule::roi(call, bin.outer), bin, place));
  if (places != nullptr) places[i] = place;
}

/// A thread per value of the result, which adds its gradient; where `places` is null it is found again to where.
template <class Rule, class T>
__global__ void add_to_greatest(RoiCall call, const typename Rule::Where* places, RoiResult grad, Compute<T>* sums,
                                int64_t count) {
  using C = Compute<T>;
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const RoiLevel level = call.levels[0];
  const Place bin = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last);
  const auto roi = Rule::roi(call, bin.outer);
  if (roi.image < 0) return;
  typename Rule::Where place;
  if (places != nullptr) {
    place = places[i];
  } else {
    Rule::find(call, roi, bin, place);
  }
  const C of_bin = value_at<T>(grad, bin.outer, bin.channel, bin.y, bin.x);
  Rule::visit(level, place, [&](int64_t y, int64_t x, C part) {
    const Place pixel = {roi.image, bin.channel, y, x};
    atomicAdd(sums + offset_of(pixel, problem.channels, level.height, level.width, problem.channels_last),
              part * of_bin);
  });
}

/// A thread per RoI.
template <class Rule>
__global__ void find_rows(RoiCall call, RoiRows* rows) {
  const int64_t k = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (k >= call.problem.rois) return;
  const auto roi = Rule::roi(call, k);
  const Range range = roi.image < 0 ? Range{0, 0} : Rule::rows(call, roi);
  rows[k] = {roi.image, static_cast<int32_t>(range.first), static_cast<int32_t>(range.last)};
}

/// A thread per value of the result.
template <class Rule>
__global__ void find_places(RoiCall call, typename Rule::Where* places, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRoiThreads + threadIdx.x;
  if (i >= count) return;
  const RoiProblem& problem = call.problem;
  const Place bin = place_of(i, problem.channels, problem.pooled_height, problem.pooled_width, problem.channels_last);
  Rule::find(call, Rule::roi(call, bin.outer), bin, places[i]);
}

/// A thread per value of the gradient.
template <class Rule, class T>
__global__ void gather_of_greatest(RoiCall call, const RoiRows* rows, const typename Rule::Where* places,
                                   RoiResult grad, T* grad_input, int64_t count) {
  using C = Compute<T>;
  VISIONOPS_SHARED(Hits, hits);
  const RoiProblem& problem = call.problem;
  const RoiLevel level = call.levels[0];
  const bool channels_last = problem.channels_last;
  const int64_t begin = int64_t{blockIdx.x} * kRoiThreads;
  const int64_t end = begin + kRoiThreads < count ? begin + kRoiThreads : count;
  const BlockRows block = rows_of_block(begin, end, problem.channels, level.height, level.width, channels_last);
  const int64_t i = begin + threadIdx.x < count ? begin + threadIdx.x : count - 1;
  const Place at = place_of(i, problem.channels, level.height, level.width, channels_last);
  C sum = 0;
  visit_hits(
      problem.rois, hits, [&](int64_t k) { return may_hit(rows[k], block); },
      [&](int64_t k) {
        if (rows[k].image != at.outer || at.y < rows[k].first || at.y >= rows[k].last) return;
        const auto roi = Rule::roi(call, k);
        const Range of_rows = Rule::bins(roi.y, problem.pooled_height, at.y);
        const Range of_columns = Rule::bins(roi.x, problem.pooled_width, at.x);
        for (int64_t p = of_rows.first; p < of_rows.last; ++p) {
          for (int64_t q = of_columns.first; q < of_columns.last; ++q) {
            const Place bin = {k, at.channel, p, q};
            const int64_t b =
                offset_of(bin, problem.channels, problem.pooled_height, problem.pooled_width, channels_last);
            const C part = Rule::weight(level, places[b], at.y, at.x);
            if (part != 0) sum += part * value_at<T>(grad, k, at.channel, p, q);
          }
        }
      });
  if (begin + threadIdx.x < count) grad_input[i] = from_compute<T>(sum);
}

template <template <class, class> class Rule>
void greatest(const RoiCall& call, void* out, void* places, Stream stream) {
  visit_types(call.problem, [&](auto map, auto box) {
    using T = typename decltype(map)::type;
    using B = typename decltype(box)::type;
    using Where = typename Rule<T, B>::Where;
    const int64_t count = result_values(call.problem);
    launch(take_greatest<Rule<T, B>, T>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call, static_cast<T*>(out),
           static_cast<Where*>(places), count);
  });
}

inline int64_t map_values(const RoiCall& call) {
  return call.problem.batch * call.problem.channels * call.levels[0].height * call.levels[0].width;
}

inline int64_t row_bytes(const RoiProblem& problem) {
  return blocks_of(problem.rois * int64_t{sizeof(RoiRows)}, 256) * 256;
}

/// `has_places`: the backward pass is given them.
template <template <class, class> class Rule>
int64_t greatest_backward_workspace_bytes(const RoiCall& call, bool has_places, bool deterministic) {
  int64_t bytes = 0;
  visit_types(call.problem, [&](auto map, auto box) {
    using T = typename decltype(map)::type;
    using Where = typename Rule<T, typename decltype(box)::type>::Where;
    const int64_t place_bytes = has_places ? 0 : result_values(call.problem) * int64_t{sizeof(Where)};
    bytes = deterministic ? row_bytes(call.problem) + place_bytes : sum_bytes<T>(map_values(call));
  });
  return bytes;
}

template <template <class, class> class Rule>
void greatest_backward(const RoiCall& call, const RoiResult& grad, const void* given_places, bool deterministic,
                       void* workspace, void* grad_input, Stream stream) {
  visit_types(call.problem, [&](auto map, auto box) {
    using T = typename decltype(map)::type;
    using R = Rule<T, typename decltype(box)::type>;
    using Where = typename R::Where;
    T* const to = static_cast<T*>(grad_input);
    const int64_t bins = result_values(call.problem), count = map_values(call);
    const auto* places = static_cast<const Where*>(given_places);
    if (!deterministic) {
      Compute<T>* const sums = zeroed_sums(to, workspace, count, stream);
      launch(add_to_greatest<R, T>, blocks_of(bins, kRoiThreads), kRoiThreads, stream, call, places, grad, sums, bins);
      finish_sums(sums, to, count, stream);
      return;
    }
    auto* const rows = static_cast<RoiRows*>(workspace);
    launch(find_rows<R>, blocks_of(call.problem.rois, kRoiThreads), kRoiThreads, stream, call, rows);
    if (places == nullptr) {
      auto* const found = reinterpret_cast<Where*>(static_cast<char*>(workspace) + row_bytes(call.problem));
      launch(find_places<R>, blocks_of(bins, kRoiThreads), kRoiThreads, stream, call, found, bins);
      places = found;
    }
    launch(gather_of_greatest<R, T>, blocks_of(count, kRoiThreads), kRoiThreads, stream, call,
           static_cast<const RoiRows*>(rows), places, grad, to, count);
  });
}

}  // namespace visionops::VISIONOPS_ISA
