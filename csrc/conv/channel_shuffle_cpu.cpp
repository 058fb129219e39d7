// Channel shuffle on the CPU: values are only moved.
#include "conv/channel_shuffle.h"

#include <cstring>

namespace visionops::VISIONOPS_ISA {
namespace {

template <class T>
void shuffle(const ShuffleProblem& p, const T* image, T* out, int64_t begin, int64_t end) {
  const int64_t each = p.channels / p.groups;
  for (int64_t item = begin; item < end; ++item) {
    if (p.channels_last) {
      const T* from = image + item * p.channels;
      T* to = out + item * p.channels;
      for (int64_t i = 0; i < each; ++i) {
        for (int64_t group = 0; group < p.groups; ++group) *to++ = from[group * each + i];
      }
    } else {
      const int64_t channel = item % p.channels;
      const int64_t source = item - channel + channel % p.groups * each + channel / p.groups;
      memcpy(out + item * p.pixels, image + source * p.pixels, p.pixels * sizeof(T));
    }
  }
}

}  // namespace

void channel_shuffle(const ShuffleProblem& problem, const void* image, void* out, int64_t begin, int64_t end) {
  const auto as = [&](auto value) {
    using T = decltype(value);
    shuffle(problem, static_cast<const T*>(image), static_cast<T*>(out), begin, end);
  };
  switch (problem.dtype) {
    case DType::f64: return as(uint64_t{});
    case DType::f32: return as(uint32_t{});
    default: return as(uint16_t{});
  }
}

}  // namespace visionops::VISIONOPS_ISA
