// Averages and maxima of bins of small planes: some planes are turned into the channels of an image, which are vectors.
#pragma once

#include "pool/adaptive_pool2d.h"
#include "pool/avg_fold.h"
#include "pool/max_fold.h"

namespace visionops::VISIONOPS_ISA {

// Planes that are turned at a time, and the pixels, or bins, of which so many stay in the first caches.
constexpr int64_t kTurned = 16, kSmallPlane = 512;

inline bool turns_planes(const AdaptiveShape& shape) {
  return shape.inner == 1 && shape.outer >= kTurned && shape.y.in * shape.x.in <= kSmallPlane &&
         shape.y.out * shape.x.out <= kSmallPlane;
}

/// How many pixels a bin has: what its sum is divided by.
struct BinPixels {
  const AdaptiveShape& shape;

  int64_t operator()(int64_t p, int64_t q) const { return pixels_of(shape.y, p).count * pixels_of(shape.x, q).count; }
};

/// Small planes as the channels of one image: an item is kTurned of them.
template <class C>
class TurnedPlanes {
 public:
  TurnedPlanes(const AdaptiveShape& shape, PoolScratch& scratch)
      : planes_(shape.outer),
        pixels_(shape.y.in * shape.x.in),
        bins_(shape.y.out * shape.x.out),
        turned_{1, kTurned, shape.y, shape.x, shape.dtype},
        wide_(scratch.take<C>(pixels_)),
        image_(scratch.take<C>(pixels_ * kTurned)),
        values_(scratch.take<C>(bins_ * kTurned)),
        indices_(scratch.take<int64_t>(bins_ * kTurned)) {}

  template <class T>
  void average(int64_t index, const T* input, T* output) {
    turn(index, input);
    walk(average_fold(BinPixels{turned_}, values_));
    turn_back(index, [&](int64_t to, int64_t from) { output[to] = from_compute<T>(values_[from]); });
  }

  template <class T>
  void maximum(int64_t index, const T* input, T* output, int64_t* indices) {
    turn(index, input);
    walk(MaximumFold<C, int64_t>(values_, indices_));
    turn_back(index, [&](int64_t to, int64_t from) { output[to] = from_compute<T>(values_[from]); });
    turn_back(index, [&](int64_t to, int64_t from) { indices[to] = indices_[from]; });
  }

 private:
  template <class T>
  void turn(int64_t index, const T* input) const {
    for (int64_t lane = 0; lane < kTurned; ++lane) {
      // The last item may lack planes; its last one stands for them.
      const int64_t plane = pool_min(index * kTurned + lane, planes_ - 1);
      const C* const from = dense_row(input + plane * pixels_, pixels_, 1, 1, wide_);
      for (int64_t i = 0; i < pixels_; ++i) image_[i * kTurned + lane] = from[i];
    }
  }

  template <class Fold>
  void walk(Fold&& fold) const {
    const PoolCut cut(kTurned, turned_.x.in, turned_.y.out, 1);
    walk_windows(turned_, cut, image_, fold, 0, cut.items(1));
  }

  /// Calls put(place in the result, place in the image of bins) for all bins of the item's planes.
  template <class Put>
  void turn_back(int64_t index, const Put& put) const {
    const int64_t begin = index * kTurned, end = pool_min(planes_, begin + kTurned);
    for (int64_t plane = begin; plane < end; ++plane) {
      for (int64_t bin = 0; bin < bins_; ++bin) put(plane * bins_ + bin, bin * kTurned + plane - begin);
    }
  }

  int64_t planes_, pixels_, bins_;
  AdaptiveShape turned_;
  C* wide_;
  C* image_;
  C* values_;
  int64_t* indices_;
};

}  // namespace visionops::VISIONOPS_ISA
