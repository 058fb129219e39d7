// How batch norm walks over an image: items of work, and contiguous runs of elements within them.
#pragma once

#include "norm/fused_batch_norm.h"
#include "norm/slope_bits.h"

namespace visionops::VISIONOPS_ISA {

// Elements that are loaded, computed and stored at a time: several such arrays fit into the first cache.
constexpr int64_t kChunk = 1024;

// Columns of short rows that are taken at once: their coefficients share the first cache with the elements.
constexpr int64_t kColumnsAtOnce = 512;

// Of an item: elements of its channel or, with channels last, rows.
constexpr int64_t kElementsOfChannel = 8192, kMostRows = 128;

constexpr int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/// Contiguous elements. With channels last each has its column of coefficients, otherwise all have one.
struct Run {
  int64_t first, count;
  int64_t column;
  int64_t bits;  // byte of the first one's bit
};

/// An image as rows of columns: with channels last some pixels, so that few channels still fill vectors, otherwise one
/// channel of one image.
struct Walk {
  const BatchNormProblem& problem;
  int64_t repeats;       // pixels of a row, channels last
  int64_t columns;       // of a row, channels last
  int64_t rows_at_once;  // of a run, channels last: several if short ones lie together, their bits too
  int64_t coefficients;  // of one kind, for a whole run, up to a multiple of the longest vector
  int64_t rows;
  int64_t rows_per_item;  // channels last
  int64_t row_bits;       // bytes
  int64_t images;         // of an item, otherwise
  int64_t slice;          // pixels of an item, otherwise
  int64_t slices, items_per_channel, items;

  explicit Walk(const BatchNormProblem& problem) : problem(problem) {
    const int64_t batch = problem.batch, channels = problem.channels, pixels = problem.pixels;
    if (problem.channels_last) {
      const BatchNormRows cut = batch_norm_rows(batch * pixels, channels);
      repeats = cut.pixels;
      columns = cut.columns;
      rows = cut.count;
      row_bits = bit_bytes(columns);
      rows_at_once = columns % 8 == 0 ? larger(kColumnsAtOnce / columns, 1) : 1;
      images = slice = slices = items_per_channel = 0;
      // Equally many for each of 16 threads, or of 4 where every item would be small beside its merger.
      const int64_t shares = rows < 256 ? 4 : 16;
      rows_per_item = blocks(rows, shares * blocks(rows, shares * kMostRows));
      items = blocks(rows, rows_per_item);
    } else {
      repeats = 1;
      columns = channels;
      rows = batch * channels;
      rows_at_once = 1;
      rows_per_item = 0;
      row_bits = bit_bytes(pixels);
      images = larger(kElementsOfChannel / pixels, 1);
      // Slices begin at whole bytes of bits and whole vectors.
      slice = blocks(blocks(pixels, blocks(pixels, kElementsOfChannel)), 64) * 64;
      slices = blocks(pixels, slice);
      items_per_channel = blocks(batch, images) * slices;
      items = channels * items_per_channel;
    }
    coefficients = blocks(columns * rows_at_once, 16) * 16;
  }

  /// Elements of a channel in the p-th item that has some of it.
  int64_t count_of(int64_t p) const {
    if (problem.channels_last) {
      const int64_t pixels = rows_per_item * repeats;
      return smaller(pixels, problem.batch * problem.pixels - p * pixels);
    }
    const Piece piece = piece_of_channel(0, p);
    return smaller(images, problem.batch - piece.image) * smaller(slice, problem.pixels - piece.pixel);
  }

  int64_t elements() const { return problem.batch * problem.pixels * problem.channels; }

  int64_t pieces() const { return problem.channels_last ? items : items_per_channel; }

  /// Place of the moments of a channel in its p-th item.
  int64_t moments_of(int64_t channel, int64_t p) const {
    return problem.channels_last ? p * problem.channels + channel : channel * items_per_channel + p;
  }

  /// Rows [first_row(item), first_row(item + 1)) are those of an item, channels last.
  int64_t first_row(int64_t item) const { return smaller(item * rows_per_item, rows); }

  /// Only the image's last row may be short.
  Run row_run(int64_t row) const {
    return {row * columns, smaller(columns, elements() - row * columns), 0, row * row_bits};
  }

  /// Whether `count` rows from `row` on lie before `end` and none of them is short.
  bool full_rows(int64_t row, int64_t count, int64_t end) const {
    return row + count <= end && row_run(row + count - 1).count == columns;
  }

  /// A channel's p-th item and where it begins.
  struct Piece {
    int64_t channel, p;
    int64_t image, pixel;
  };

  Piece piece_of_channel(int64_t channel, int64_t p) const {
    return {channel, p, p / slices * images, p % slices * slice};
  }

  /// Which one an item is, unless channels_last: those of a group of channels lie in the order of their memory.
  Piece piece_of(int64_t item) const {
    if (items_per_channel == 1) return {item, 0, 0, 0};  // divisions take as long as a small map
    const int64_t first = item / (items_per_channel * problem.group) * problem.group;
    const int64_t channels = smaller(problem.group, problem.channels - first);
    const int64_t place = item - first * items_per_channel, row = place / slices;
    return piece_of_channel(first + row % channels, row / channels * slices + place % slices);
  }

  /// Calls f(run) for each run of an item, in order.
  template <class F>
  void runs(int64_t item, F&& f) const {
    if (problem.channels_last) {
      const int64_t end = first_row(item + 1);
      for (int64_t row = first_row(item); row < end; row += rows_at_once) {
        Run run = row_run(row);
        run.count = smaller(smaller(row + rows_at_once, end) * columns, elements()) - run.first;
        f(run);
      }
    } else {
      const Piece piece = piece_of(item);
      const int64_t end = smaller(piece.image + images, problem.batch);
      const int64_t count = smaller(slice, problem.pixels - piece.pixel);
      for (int64_t b = piece.image; b < end; ++b) {
        const int64_t row = b * problem.channels + piece.channel;
        f(Run{row * problem.pixels + piece.pixel, count, piece.channel, row * row_bits + piece.pixel / 8});
      }
    }
  }

  /// Calls f(run) for each run of an item, cut into chunks.
  template <class F>
  void chunks(int64_t item, F&& f, int64_t chunk = kChunk) const {
    runs(item, [&](const Run& run) {
      for (int64_t i = 0; i < run.count; i += chunk) {
        const int64_t column = problem.channels_last ? run.column + i : run.column;
        f(Run{run.first + i, smaller(chunk, run.count - i), column, run.bits + i / 8});
      }
    });
  }

  /// Calls f(run) for the chunks of items [begin, end), the last item first: what the step before read last is still
  /// in the cache.
  template <class F>
  void chunks(int64_t begin, int64_t end, F&& f) const {
    for (int64_t item = end; item-- > begin;) chunks(item, f);
  }
};

}  // namespace visionops::VISIONOPS_ISA
