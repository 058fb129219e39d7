// Tensors to pointers for room `norm`: what forward and backward share.
#pragma once

#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "common/stable_torch.h"
#include "norm/fused_batch_norm.h"

namespace visionops {

using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kElementsPerTask = 8192, kMomentsPerTask = 32768;

/// Bytes that stay in a core's second cache from the first reading of a channel to the second.
constexpr int64_t kResidentBytes = 832 << 10;

inline Tensor nothing(ScalarType dtype) { return empty({0}, dtype); }

struct DeleteAligned {
  void operator()(double* data) const { ::operator delete[](data, std::align_val_t{64}); }
};
using Scratch = std::unique_ptr<double[], DeleteAligned>;

/// Aligned, for a vector that spans two cache lines is loaded twice.
inline Scratch scratch(int64_t count) { return Scratch(new (std::align_val_t{64}) double[count]); }

/// Values of channels, (C,) of any floating dtype, as the kernels read them, or none.
class PerChannel {
 public:
  PerChannel(const OptionalTensor& tensor, int64_t channels, const char* wrong) : given_(tensor.has_value()) {
    if (!given_) return;
    check(tensor->dim() == 1 && tensor->size(0) == channels && is_floating(dtype_of(*tensor)), wrong);
    const Tensor dense = as_contiguous(*tensor);
    values_.resize(channels);
    host::visit_floating(dtype_of(dense), [&](auto tag) {
      const auto* from = static_cast<const typename decltype(tag)::type*>(dense.const_data_ptr());
      for (int64_t c = 0; c < channels; ++c) values_[c] = static_cast<double>(host::to_compute(from[c]));
    });
  }

  bool given() const { return given_; }
  const double* data() const { return given_ ? values_.data() : nullptr; }

 private:
  bool given_;
  std::vector<double> values_;
};

/// Values of channels as a tensor of a floating dtype.
inline Tensor per_channel(const std::vector<double>& values, ScalarType dtype) {
  const auto channels = static_cast<int64_t>(values.size());
  Tensor out = empty({channels}, dtype);
  host::visit_floating(dtype_of(out), [&](auto tag) {
    using T = typename decltype(tag)::type;
    auto* to = static_cast<T*>(out.mutable_data_ptr());
    for (int64_t c = 0; c < channels; ++c) to[c] = host::from_compute<T>(static_cast<host::Compute<T>>(values[c]));
  });
  return out;
}

/// An image in a layout given, itself if it lies so.
inline Tensor laid_out(const Tensor& image, bool channels_last) {
  if (!channels_last) return as_contiguous(image);
  return is_channels_last(image) ? image
                                 : torch::stable::contiguous(image, torch::headeronly::MemoryFormat::ChannelsLast);
}

/// What forward and backward share: an image, and others of its shape and dtype in its layout.
struct Image {
  Tensor dense;
  int64_t batch, channels, height, width;
  bool channels_last;

  explicit Image(const Tensor& image) : Image(image, image.dim() == 4 && is_channels_last(image)) {}

  Image(const Tensor& image, bool channels_last) : dense(image), channels_last(channels_last) {
    check(image.dim() == 4 && is_floating(dtype_of(image)), "input: expected a floating (B, C, H, W)");
    dense = laid_out(image, channels_last);
    batch = image.size(0), channels = image.size(1), height = image.size(2), width = image.size(3);
  }

  Tensor like(const Tensor& other, const char* wrong) const {
    check(other.dim() == 4 && other.scalar_type() == dense.scalar_type(), wrong);
    for (int64_t d = 0; d < 4; ++d) check(other.size(d) == dense.size(d), wrong);
    return laid_out(other, channels_last);
  }

  /// The dtype of a channel's statistics and of the gradients of its parameters.
  ScalarType wide() const { return dense.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

  Tensor empty() const { return empty_image(batch, channels, height, width, channels_last, dense.scalar_type()); }

  /// A bit an element, rows padded to bytes: (B, C, bytes) or, with channels last, (rows, bytes), so that it tells the
  /// layout. visionops/norm/fused_batch_norm.py has the same rule.
  Tensor empty_bits() const {
    if (!channels_last) return visionops::empty({batch, channels, (height * width + 7) / 8}, ScalarType::Byte);
    const BatchNormRows rows = batch_norm_rows(count(), channels);
    return visionops::empty({rows.count, (rows.columns + 7) / 8}, ScalarType::Byte);
  }

  int64_t count() const { return batch * height * width; }

  /// Of which `readings` images are read in more than one step.
  BatchNormProblem problem(const void* input, const void* residual, Activation activation, int64_t readings) const {
    const int64_t group = readings == 0 ? channels : channels_at_once(readings);
    return {input, residual, dtype_of(dense), batch, channels, height * width, channels_last, group, activation};
  }

 private:
  /// Channels to take every step on before the next ones, whose second reading then meets the cache: as many as fit,
  /// for memory is read faster in long runs, but equally many for every thread. All of them where none fits.
  int64_t channels_at_once(int64_t readings) const {
    const auto threads = static_cast<int64_t>(torch::stable::get_num_threads());
    const auto element = static_cast<int64_t>(dense.element_size());
    const int64_t most = kResidentBytes / (count() * element * readings);
    if (channels_last || channels < 4 * threads || most == 0) return channels;
    int64_t group = most < channels / threads ? most : channels / threads;
    while (group > 1 && channels % (group * threads) != 0) --group;
    return group;
  }
};

inline Activation activation_of(int64_t number) {
  check(number >= 0 && number <= static_cast<int64_t>(Activation::gelu), "activation: expected 0 to 6");
  return static_cast<Activation>(number);
}

/// Calls sum over all items, merge over all channels and apply over all items, in the order that suits the cache. The
/// results are the same in either.
template <class Sum, class Merge, class Apply>
void in_steps(const BatchNormProblem& problem, const BatchNormPlan& plan, const Sum& sum, const Merge& merge,
              const Apply& apply) {
  const int64_t channel = problem.batch * problem.pixels, item = channel * problem.channels / plan.items;
  const int64_t group = problem.group;
  if (group < problem.channels) {
    parallel((problem.channels + group - 1) / group, kElementsPerTask / (channel * group) + 1,
             [&](int64_t begin, int64_t end) {
               for (int64_t g = begin; g < end; ++g) {
                 const int64_t first = g * group, rest = problem.channels - first;
                 const int64_t last = first + (rest < group ? rest : group);
                 sum(first * plan.items_per_channel, last * plan.items_per_channel);
                 merge(first, last);
                 apply(first * plan.items_per_channel, last * plan.items_per_channel);
               }
             });
  } else {
    const int64_t grain = kElementsPerTask / (item + 1) + 1;
    parallel(plan.items, grain, sum);
    parallel(problem.channels, kMomentsPerTask * problem.channels / plan.moments + 1, merge);
    parallel(plan.items, grain, apply);
  }
}

}  // namespace visionops
