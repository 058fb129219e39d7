// The two factors of a convolution as a matrix product, one pair for each layout of the images.
#pragma once

#include "conv/convolution.h"
#include "conv/image_columns.h"
#include "conv/image_rows.h"
#include "conv/product.h"
#include "conv/turn.h"

namespace visionops::VISIONOPS_ISA {

/// What both layouts share: pointers into one group's weight, and the end of a value's way.
template <class T>
struct Group {
  using C = Compute<T>;

  const ConvolutionProblem& p;
  const T* image;  // the group's first channel
  const T* weight;
  const T* bias;
  T* out;
  int64_t depth, positions;
  bool whole;  // positions are the result's pixels in memory's order

  Group(const ConvolutionProblem& p, int64_t group)
      : p(p),
        image(static_cast<const T*>(p.image) + group * p.in_channels * (p.channels_last ? 1 : p.y.size * p.x.size)),
        weight(static_cast<const T*>(p.weight) + group * p.weight_strides.group),
        bias(p.bias == nullptr ? nullptr : static_cast<const T*>(p.bias) + group * p.out_channels),
        out(static_cast<T*>(p.out) + group * p.out_channels * (p.channels_last ? 1 : p.out_height * p.out_width)),
        depth(p.in_channels * p.y.taps * p.x.taps),
        positions(p.batch * p.y.positions * p.x.positions),
        whole(p.y.positions == p.out_height && p.x.positions == p.out_width) {}

  const T* weight_of(int64_t out_channel, int64_t in_channel, int64_t tap) const {
    const WeightStrides& s = p.weight_strides;
    const int64_t row = p.y.weight_first + tap / p.x.taps * p.y.weight_step;
    const int64_t column = p.x.weight_first + tap % p.x.taps * p.x.weight_step;
    return weight + out_channel * s.out_channel + in_channel * s.in_channel + row * s.row + column * s.column;
  }

  /// Where the result of a position begins.
  T* result(const Position& at, int64_t channel_step, int64_t image_step) const {
    const int64_t y = p.y.out_first + at.y * p.y.out_step, x = p.x.out_first + at.x * p.x.out_step;
    return out + at.image * image_step + (y * p.out_width + x) * channel_step;
  }

  /// to[i * step] = values[i].
  void write(const C* values, int64_t count, int64_t step, T* to) const {
    if constexpr (std::is_same_v<T, C>) {
      if (step == 1 && count == kTileColumns<C>) {
        for (int i = 0; i < kTileColumns<C>; ++i) to[i] = values[i];
        return;
      }
    }
    for (int64_t i = 0; i < count; ++i) to[i * step] = from_compute<T>(values[i]);
  }
};

/// (batch, channels, height, width): the result's rows are channels, its columns positions.
template <class T>
struct ChannelsFirst : Group<T> {
  using typename Group<T>::C;
  using Group<T>::p;

  int64_t rows, columns, depth;
  bool weight_in_order;  // by channel and tap, without gaps

  ChannelsFirst(const ConvolutionProblem& problem, int64_t group)
      : Group<T>(problem, group), rows(p.out_channels), columns(this->positions), depth(Group<T>::depth) {
    const WeightStrides& s = p.weight_strides;
    weight_in_order = (p.x.taps == 1 || s.column == 1) && (p.y.taps == 1 || s.row == p.x.taps) &&
                      s.in_channel == p.x.taps * p.y.taps && p.x.weight_first == 0 && p.x.weight_step == 1 &&
                      p.y.weight_first == 0 && p.y.weight_step == 1;
  }

  void pack_left(int64_t row, int64_t count, int64_t k, int64_t terms, C* to, int64_t step = kRowStride<C>) const {
    if (weight_in_order) {
      for (int64_t r = 0; r < count; ++r) {
        copy_values(this->weight + (row + r) * p.weight_strides.out_channel + k, terms, to + r * step);
      }
      return;
    }
    // Of an adjoint the rows are neighbours in the weight, and the terms far apart.
    const int64_t taps = p.y.taps * p.x.taps, between = p.weight_strides.out_channel;
    if (taps == 1 && between == 1) {
      const T* end = this->weight_of(rows, depth - 1, 0);
      pack_rows(this->weight_of(row, k, 0), end, p.weight_strides.in_channel, count, terms, to, step);
      return;
    }
    for (int64_t i = 0; i < terms; ++i) {
      const T* from = this->weight_of(row, (k + i) / taps, (k + i) % taps);
      for (int64_t r = 0; r < count; ++r) to[r * step + i] = to_compute(from[r * between]);
    }
  }

  void pack_right(int64_t column, int64_t count, int64_t k, int64_t terms, C* to) const {
    pack_columns(p, this->image, column, count, k, terms, to);
  }

  void store(int64_t row, int64_t count, int64_t column, int64_t lanes, C* tile) const {
    for (int64_t r = 0; r < count && this->bias != nullptr; ++r) {
      const C shift = to_compute(this->bias[row + r]);
      for (int i = 0; i < kTileColumns<C>; ++i) tile[r * kTileColumns<C> + i] += shift;
    }
    activate_values(p.activation, tile, count * kTileColumns<C>);
    const int64_t plane = p.out_height * p.out_width;
    // Positions of one image, or of one row of it, are neighbours in the result.
    const int64_t unit = this->whole ? p.y.positions * p.x.positions : p.x.positions;
    const int64_t step = this->whole ? 1 : p.x.out_step;
    for (int64_t lane = 0; lane < lanes;) {
      const int64_t at = column + lane, rest = unit - at % unit;
      const int64_t run = rest < lanes - lane ? rest : lanes - lane;
      T* to = this->result(Position(p.y, p.x, at), 1, p.groups * p.out_channels * plane) + row * plane;
      for (int64_t r = 0; r < count; ++r) {
        this->write(tile + r * kTileColumns<C> + lane, run, step, to + r * plane);
      }
      lane += run;
    }
  }
};

/// (batch, height, width, channels): the result's rows are positions, its columns channels.
template <class T>
struct ChannelsLast : Group<T> {
  using typename Group<T>::C;
  using Group<T>::p;

  int64_t rows, columns, depth;
  bool in_place;  // a position's row is its pixel

  ChannelsLast(const ConvolutionProblem& problem, int64_t group)
      : Group<T>(problem, group), rows(this->positions), columns(p.out_channels), depth(Group<T>::depth) {
    in_place = p.y.is_pixels() && p.x.is_pixels();
  }

  void pack_left(int64_t row, int64_t count, int64_t k, int64_t terms, C* to) const {
    if (in_place) {
      const int64_t pixel = p.groups * p.in_channels;
      for (int64_t r = 0; r < count; ++r) {
        copy_values(this->image + (row + r) * pixel + k, terms, to + r * kRowStride<C>);
      }
      return;
    }
    Position at(p.y, p.x, row);
    for (int64_t r = 0; r < count; ++r, at.advance(p.y, p.x)) {
      pack_position(p, this->image, at, k, terms, to + r * kRowStride<C>);
    }
  }

  void pack_right(int64_t column, int64_t count, int64_t k, int64_t terms, C* to) const {
    for (int64_t done = 0; done < terms;) {
      const int64_t tap = (k + done) / p.in_channels, channel = (k + done) % p.in_channels;
      const int64_t rest = p.in_channels - channel;
      const int64_t run = rest < terms - done ? rest : terms - done;
      for (int64_t lane = 0; lane < count; lane += kVector<C>) {
        const int64_t lanes = count - lane < kVector<C> ? count - lane : kVector<C>;
        pack_turned(this->weight_of(column + lane, channel, tap), p.weight_strides.out_channel, lanes,
                    p.weight_strides.in_channel, run, to + done * kTileColumns<C> + lane);
      }
      done += run;
    }
  }

  void store(int64_t row, int64_t count, int64_t column, int64_t lanes, C* tile) const {
    for (int64_t r = 0; r < count && this->bias != nullptr; ++r) {
      for (int64_t i = 0; i < lanes; ++i) tile[r * kTileColumns<C> + i] += to_compute(this->bias[column + i]);
    }
    activate_values(p.activation, tile, count * kTileColumns<C>);
    const int64_t channels = p.groups * p.out_channels;
    Position at(p.y, p.x, row);
    for (int64_t r = 0; r < count; ++r, at.advance(p.y, p.x)) {
      T* to = this->result(at, channels, p.out_height * p.out_width * channels) + column;
      this->write(tile + r * kTileColumns<C>, lanes, 1, to);
    }
  }
};

}  // namespace visionops::VISIONOPS_ISA
