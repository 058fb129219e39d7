// The gradient of a convolution by its weight on the CPU: a matrix product summed over all positions.
#include "conv/convolution.h"
#include "conv/image_columns.h"
#include "conv/image_rows.h"
#include "conv/product.h"
#include "conv/turn.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Rows are output channels, columns input channels and taps, terms the positions of all images.
template <class T>
struct WeightFactors {
  using C = Compute<T>;

  const ConvolutionProblem& p;
  const T* image;
  const T* grad;
  T* weight;
  int64_t rows, columns, depth, taps;
  bool whole_pixels;  // a position's columns are its pixel
  bool in_order;      // the columns of a row are neighbours in the weight

  WeightFactors(const ConvolutionProblem& p, void* grad_weight, int64_t group)
      : p(p),
        image(static_cast<const T*>(p.image) + group * p.in_channels * (p.channels_last ? 1 : p.y.size * p.x.size)),
        grad(static_cast<const T*>(p.out) +
             group * p.out_channels * (p.channels_last ? 1 : p.out_height * p.out_width)),
        weight(static_cast<T*>(grad_weight) + group * p.weight_strides.group),
        rows(p.out_channels),
        columns(p.in_channels * p.y.taps * p.x.taps),
        depth(p.batch * p.y.positions * p.x.positions),
        taps(p.y.taps * p.x.taps) {
    whole_pixels = p.y.is_pixels() && p.x.is_pixels();
    const WeightStrides& s = p.weight_strides;
    in_order = s.column == 1 && s.row == p.x.taps && s.in_channel == taps && (taps == 1 || !p.channels_last);
  }

  void pack_left(int64_t row, int64_t count, int64_t k, int64_t terms, C* to) const {
    const int64_t plane = p.y.positions * p.x.positions, channels = p.groups * p.out_channels;
    if (p.channels_last) {
      const T* end = static_cast<const T*>(p.out) + depth * channels;
      pack_rows(grad + k * channels + row, end, channels, count, terms, to, kRowStride<C>);
      return;
    }
    for (int64_t done = 0; done < terms;) {
      const int64_t at = (k + done) % plane, image_number = (k + done) / plane;
      const int64_t run = plane - at < terms - done ? plane - at : terms - done;
      for (int64_t r = 0; r < count; ++r) {
        copy_values(grad + (image_number * channels + row + r) * plane + at, run, to + r * kRowStride<C> + done);
      }
      done += run;
    }
  }

  // Columns of the product are rows of the image's column matrix, in the order (channel, tap) or, channels last,
  // (tap, channel): packed as such in pieces, and turned.
  void pack_right(int64_t column, int64_t count, int64_t k, int64_t terms, C* to) const {
    C piece[kTileColumns<C> * kTileColumns<C>];
    if (p.channels_last) {
      Position at(p.y, p.x, k);
      const T* pixel = image + k * p.groups * p.in_channels + column;
      for (int64_t i = 0; i < terms; ++i, at.advance(p.y, p.x), to += kTileColumns<C>) {
        if (whole_pixels) {
          copy_values(pixel + i * p.groups * p.in_channels, count, to);
        } else {
          pack_position(p, image, at, column, count, to);
        }
        for (int64_t lane = count; lane < kTileColumns<C>; ++lane) to[lane] = C(0);
      }
      return;
    }
    for (int64_t at = 0; at < terms; at += kTileColumns<C>) {
      const int64_t positions = terms - at < kTileColumns<C> ? terms - at : kTileColumns<C>;
      pack_columns(p, image, k + at, positions, column, count, piece);
      for (int64_t lane = 0; lane < count; lane += kVector<C>) {
        const int64_t lanes = count - lane < kVector<C> ? count - lane : kVector<C>;
        pack_turned(piece + lane * kTileColumns<C>, kTileColumns<C>, lanes, 1, positions,
                    to + at * kTileColumns<C> + lane);
      }
    }
  }

  void store(int64_t row, int64_t count, int64_t column, int64_t lanes, const C* tile) const {
    const WeightStrides& s = p.weight_strides;
    if (in_order) {
      T* to = weight + row * s.out_channel + column;
      for (int64_t r = 0; r < count; ++r, to += s.out_channel, tile += kTileColumns<C>) {
        for (int64_t lane = 0; lane < lanes; ++lane) to[lane] = from_compute<T>(tile[lane]);
      }
      return;
    }
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t number = column + lane;
      const int64_t channel = p.channels_last ? number % p.in_channels : number / taps;
      const int64_t tap = p.channels_last ? number / p.in_channels : number % taps;
      T* to =
          weight + row * s.out_channel + channel * s.in_channel + tap / p.x.taps * s.row + tap % p.x.taps * s.column;
      for (int64_t r = 0; r < count; ++r) {
        to[r * s.out_channel] = from_compute<T>(tile[r * kTileColumns<C> + lane]);
      }
    }
  }
};

}  // namespace

int64_t convolution_weight_items(const ConvolutionProblem& problem) {
  int64_t items = 0;
  visit_floating(problem.dtype, [&](auto tag) {
    using Factors = WeightFactors<typename decltype(tag)::type>;
    const Factors factors(problem, nullptr, 0);
    items = problem.groups * Product<typename Factors::C, Factors>(factors, nullptr).items();
  });
  return items;
}

void convolution_weight(const ConvolutionProblem& problem, void* grad_weight, void* scratch, int64_t begin,
                        int64_t end) {
  visit_floating(problem.dtype, [&](auto tag) {
    using Factors = WeightFactors<typename decltype(tag)::type>;
    const int64_t items = convolution_weight_items(problem) / problem.groups;
    for (int64_t group = begin / items; group * items < end; ++group) {
      const Factors factors(problem, grad_weight, group);
      const int64_t from = begin - group * items, to = end - group * items;
      Product<typename Factors::C, Factors>(factors, scratch).run(from > 0 ? from : 0, to < items ? to : items);
    }
  });
}

void sum_parts(const void* parts_of, DType dtype, int64_t parts, int64_t count, void* out) {
  const auto sum = [&](auto* to) {
    const auto* from = static_cast<decltype(to)>(const_cast<void*>(parts_of));
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
    for (int64_t part = 1; part < parts; ++part) {
      for (int64_t i = 0; i < count; ++i) to[i] += from[part * count + i];
    }
  };
  dtype == DType::f64 ? sum(static_cast<double*>(out)) : sum(static_cast<float*>(out));
}

}  // namespace visionops::VISIONOPS_ISA
