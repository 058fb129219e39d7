// Tensors to pointers for room `norm`: schemas, the checks that memory safety needs, and registration.
#include <memory>
#include <new>
#include <optional>
#include <tuple>
#include <vector>

#include "common/stable_torch.h"
#include "norm/fused_batch_norm.h"

namespace visionops {
namespace {

using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kElementsPerTask = 32768;

// Bytes that stay in a core's second cache from the first reading of a channel to the second.
constexpr int64_t kResidentBytes = 640 << 10;

Tensor nothing(ScalarType dtype) { return empty({0}, dtype); }

struct DeleteAligned {
  void operator()(double* data) const { ::operator delete[](data, std::align_val_t{64}); }
};
using Scratch = std::unique_ptr<double[], DeleteAligned>;

// Aligned, for a vector that spans two cache lines is loaded twice.
Scratch scratch(int64_t count) { return Scratch(new (std::align_val_t{64}) double[count]); }

// Values of channels, (C,) of any floating dtype, as the kernels read them, or none.
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

// Values of channels as a tensor of a floating dtype.
Tensor per_channel(const std::vector<double>& values, ScalarType dtype) {
  const auto channels = static_cast<int64_t>(values.size());
  Tensor out = empty({channels}, dtype);
  host::visit_floating(dtype_of(out), [&](auto tag) {
    using T = typename decltype(tag)::type;
    auto* to = static_cast<T*>(out.mutable_data_ptr());
    for (int64_t c = 0; c < channels; ++c) to[c] = host::from_compute<T>(static_cast<host::Compute<T>>(values[c]));
  });
  return out;
}

// An image in a layout given, itself if it lies so.
Tensor laid_out(const Tensor& image, bool channels_last) {
  if (!channels_last) return as_contiguous(image);
  return is_channels_last(image) ? image
                                 : torch::stable::contiguous(image, torch::headeronly::MemoryFormat::ChannelsLast);
}

// What forward and backward share: an image, and others of its shape and dtype in its layout.
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

  Tensor empty() const { return empty_image(batch, channels, height, width, channels_last, dense.scalar_type()); }

  // A bit an element, rows padded to bytes: (B, C, bytes) or, with channels last, (rows, bytes), so that it tells the
  // layout. visionops/norm/fused_batch_norm.py has the same rule.
  Tensor empty_bits() const {
    if (!channels_last) return visionops::empty({batch, channels, (height * width + 7) / 8}, ScalarType::Byte);
    const BatchNormRows rows = batch_norm_rows(count(), channels);
    return visionops::empty({rows.count, (rows.columns + 7) / 8}, ScalarType::Byte);
  }

  int64_t count() const { return batch * height * width; }

  BatchNormProblem problem(const void* input, const void* residual, Activation activation) const {
    return {input, residual, dtype_of(dense), batch, channels, height * width, channels_last, activation};
  }
};

Activation activation_of(int64_t number) {
  check(number >= 0 && number <= static_cast<int64_t>(Activation::gelu), "activation: expected 0 to 6");
  return static_cast<Activation>(number);
}

// Whether to take every step on a channel before the next one: its second reading then meets the cache.
bool by_channel(const BatchNormProblem& problem, int64_t readings) {
  const int64_t element = problem.dtype == DType::f64 ? 8 : problem.dtype == DType::f32 ? 4 : 2;
  return !problem.channels_last && problem.channels >= 4 * static_cast<int64_t>(torch::stable::get_num_threads()) &&
         problem.batch * problem.pixels * element * readings <= kResidentBytes;
}

// Calls sum over all items, merge over all channels and apply over all items, in the order that suits the cache. The
// results are the same in either.
template <class Sum, class Merge, class Apply>
void in_steps(const BatchNormProblem& problem, const BatchNormPlan& plan, int64_t readings, const Sum& sum,
              const Merge& merge, const Apply& apply) {
  const int64_t channel = problem.batch * problem.pixels, item = channel * problem.channels / plan.items;
  if (by_channel(problem, readings)) {
    parallel(problem.channels, kElementsPerTask / channel + 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        sum(c * plan.items_per_channel, (c + 1) * plan.items_per_channel);
        merge(c, c + 1);
        apply(c * plan.items_per_channel, (c + 1) * plan.items_per_channel);
      }
    });
  } else {
    const int64_t grain = kElementsPerTask / (item + 1) + 1;
    parallel(plan.items, grain, sum);
    parallel(problem.channels, kElementsPerTask * problem.channels / plan.moments + 1, merge);
    parallel(plan.items, grain, apply);
  }
}

// output, batch mean, biased batch variance, moved running estimates, bits of the slope; what is not computed is empty.
using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Outputs fused_batch_norm_op(const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
                            const OptionalTensor& running_mean, const OptionalTensor& running_var, bool training,
                            double momentum, double eps, const OptionalTensor& residual, int64_t activation,
                            bool with_bits) {
  const Image image(input);
  const int64_t channels = image.channels, count = image.count();
  check(!training || count != 1, "input: expected more than one value per channel with training=True, got one");
  const Tensor other =
      residual.has_value() ? image.like(*residual, "residual: expected the shape and dtype of input") : image.dense;
  const PerChannel gain(weight, channels, "weight: expected a floating (C,)");
  const PerChannel offset(bias, channels, "bias: expected a floating (C,)");
  const PerChannel known_mean(running_mean, channels, "running_mean: expected a floating (C,)");
  const PerChannel known_var(running_var, channels, "running_var: expected a floating (C,)");
  check(training || (known_mean.given() && known_var.given()),
        "running_mean, running_var: expected both with training=False");

  Tensor out = image.empty();
  std::vector<double> mean(training ? channels : 0), var(mean.size());
  const Tensor bits = with_bits ? image.empty_bits() : nothing(ScalarType::Byte);
  if (input.numel() > 0) {
    const BatchNormProblem problem =
        image.problem(image.dense.const_data_ptr(), residual.has_value() ? other.const_data_ptr() : nullptr,
                      activation_of(activation));
    const BatchNormPlan plan = batch_norm_plan(problem);
    auto* bit_data = with_bits ? static_cast<uint8_t*>(bits.mutable_data_ptr()) : nullptr;
    void* data = out.mutable_data_ptr();
    const Scratch coefficients = scratch(3 * plan.coefficients);
    const BatchNormChannels known = {gain.data(), offset.data(), training ? mean.data() : known_mean.data(),
                                     training ? var.data() : known_var.data(), eps};
    const auto apply = [&](int64_t begin, int64_t end) {
      fused_batch_norm(problem, coefficients.get(), data, bit_data, begin, end);
    };
    if (training) {
      const Scratch moments = scratch(2 * plan.moments);
      in_steps(
          problem, plan, 1, [&](int64_t begin, int64_t end) { batch_norm_moments(problem, moments.get(), begin, end); },
          [&](int64_t begin, int64_t end) {
            batch_norm_statistics(problem, moments.get(), mean.data(), var.data(), begin, end);
            batch_norm_coefficients(problem, known, coefficients.get(), begin, end);
          },
          apply);
    } else {
      batch_norm_coefficients(problem, known, coefficients.get(), 0, channels);
      parallel(plan.items, kElementsPerTask * plan.items / input.numel() + 1, apply);
    }
  }

  const auto moved = [&](const OptionalTensor& estimate, const PerChannel& known, const std::vector<double>& found,
                         double factor) {
    if (!training || !estimate.has_value()) return nothing(ScalarType::Float);
    std::vector<double> values(known.data(), known.data() + channels);
    if (count > 0) {
      for (int64_t c = 0; c < channels; ++c) values[c] += momentum * (found[c] * factor - values[c]);
    }
    return per_channel(values, estimate->scalar_type());
  };
  const double unbiased = static_cast<double>(count) / static_cast<double>(count - 1);
  return {out,
          per_channel(mean, ScalarType::Double),
          per_channel(var, ScalarType::Double),
          moved(running_mean, known_mean, mean, 1),
          moved(running_var, known_var, var, unbiased),
          bits};
}

// Gradients of input, weight, bias and residual; what is not asked for is empty. Without input only a gradient that
// does not depend on it.
std::tuple<Tensor, Tensor, Tensor, Tensor> fused_batch_norm_backward_op(
    const Tensor& grad, const OptionalTensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
    const Tensor& mean, const Tensor& var, const OptionalTensor& residual, const Tensor& bits, bool training,
    double eps, int64_t activation, bool with_affine, bool with_residual) {
  // Without input, a gradient that needs bits is laid out as the input was, which they tell.
  const Image image = input.has_value() ? Image(*input) : bits.dim() > 1 ? Image(grad, bits.dim() == 2) : Image(grad);
  const int64_t channels = image.channels;
  const Tensor arriving = image.like(grad, "grad: expected the shape and dtype of input");
  const Tensor other =
      residual.has_value() ? image.like(*residual, "residual: expected the shape and dtype of input") : image.dense;
  const PerChannel gain(weight, channels, "weight: expected a floating (C,)");
  const PerChannel offset(bias, channels, "bias: expected a floating (C,)");
  const PerChannel known_mean(mean, channels, "mean: expected a floating (C,)");
  const PerChannel known_var(var, channels, "var: expected a floating (C,)");
  const Activation function = activation_of(activation);
  const bool kinked = is_kinked(function);
  check(!with_residual || function != Activation::none, "with_residual: without activation that gradient is grad");
  check(bits.scalar_type() == ScalarType::Byte && bits.is_contiguous(), "bits: expected a contiguous uint8");
  const bool reads_input = training || with_affine || (function != Activation::none && !kinked);
  check(input.has_value() || !reads_input || grad.numel() == 0, "input: expected a tensor, for this gradient needs it");

  Tensor grad_input = image.empty();
  Tensor grad_residual = with_residual ? image.empty() : nothing(grad.scalar_type());
  std::vector<double> grad_weight(channels), grad_bias(channels);
  if (grad.numel() > 0) {
    const BatchNormProblem problem = image.problem(reads_input ? image.dense.const_data_ptr() : nullptr,
                                                   residual.has_value() ? other.const_data_ptr() : nullptr, function);
    const BatchNormPlan plan = batch_norm_plan(problem);
    check(!kinked || bits.numel() == plan.bit_bytes, "bits: expected those of the forward call");
    const BatchNormGradient gradient = {arriving.const_data_ptr(), static_cast<const uint8_t*>(bits.const_data_ptr()),
                                        training};
    const BatchNormChannels known = {gain.data(), offset.data(), known_mean.data(), known_var.data(), eps};
    void* data = grad_input.mutable_data_ptr();
    void* residual_data = with_residual ? grad_residual.mutable_data_ptr() : nullptr;
    const Scratch coefficients = scratch(5 * plan.coefficients);
    batch_norm_coefficients(problem, known, coefficients.get(), 0, channels);
    const auto apply = [&](int64_t begin, int64_t end) {
      fused_batch_norm_backward(problem, gradient, coefficients.get(), data, residual_data, begin, end);
    };
    if (training || with_affine) {
      const Scratch sums = scratch(2 * plan.moments);
      in_steps(
          problem, plan, 2,
          [&](int64_t begin, int64_t end) {
            batch_norm_backward_sums(problem, gradient, coefficients.get(), sums.get(), begin, end);
          },
          [&](int64_t begin, int64_t end) {
            batch_norm_backward_coefficients(problem, gradient, known, sums.get(), grad_weight.data(), grad_bias.data(),
                                             coefficients.get(), begin, end);
          },
          apply);
    } else {
      parallel(plan.items, kElementsPerTask * plan.items / grad.numel() + 1, apply);
    }
  }
  const auto of_parameter = [&](const OptionalTensor& parameter, const std::vector<double>& values) {
    if (!with_affine || !parameter.has_value()) return nothing(ScalarType::Float);
    return per_channel(values, parameter->scalar_type());
  };
  return {grad_input, of_parameter(weight, grad_weight), of_parameter(bias, grad_bias), grad_residual};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "fused_batch_norm_native(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
      "bool training, float momentum, float eps, Tensor? residual, int activation, bool with_bits) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "fused_batch_norm_backward_native(Tensor grad, Tensor? input, Tensor? weight, Tensor? bias, Tensor mean, "
      "Tensor var, Tensor? residual, Tensor bits, bool training, float eps, int activation, bool with_affine, "
      "bool with_residual) -> (Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("fused_batch_norm_native", TORCH_BOX(&fused_batch_norm_op));
  m.impl("fused_batch_norm_backward_native", TORCH_BOX(&fused_batch_norm_backward_op));
}

}  // namespace visionops
