// Tensors to pointers for room `norm`, forward: schemas, the checks that memory safety needs, and registration.
#include "norm/norm_torch.h"

#include <tuple>

namespace visionops {
namespace {

// Batch mean, biased batch variance, moved running estimates, bits of the slope; what is not computed is empty.
using Found = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Writes the output, laid out as the image and possibly the image itself.
Found normalise(const Image& image, void* out, const OptionalTensor& weight, const OptionalTensor& bias,
                const OptionalTensor& running_mean, const OptionalTensor& running_var, bool training, double momentum,
                double eps, const OptionalTensor& residual, int64_t activation, bool with_bits) {
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

  std::vector<double> mean(training ? channels : 0), var(mean.size());
  const Tensor bits = with_bits ? image.empty_bits() : nothing(ScalarType::Byte);
  if (image.dense.numel() > 0) {
    const BatchNormProblem problem =
        image.problem(image.dense.const_data_ptr(), residual.has_value() ? other.const_data_ptr() : nullptr,
                      activation_of(activation), training ? 1 : 0);
    const BatchNormPlan plan = batch_norm_plan(problem);
    auto* bit_data = with_bits ? static_cast<uint8_t*>(bits.mutable_data_ptr()) : nullptr;
    const Scratch coefficients = scratch(3 * plan.coefficients);
    const BatchNormChannels known = {gain.data(), offset.data(), training ? mean.data() : known_mean.data(),
                                     training ? var.data() : known_var.data(), eps};
    const auto apply = [&](int64_t begin, int64_t end) {
      fused_batch_norm(problem, coefficients.get(), out, bit_data, begin, end);
    };
    if (training) {
      const Scratch moments = scratch(2 * plan.moments);
      in_steps(
          problem, plan, [&](int64_t begin, int64_t end) { batch_norm_moments(problem, moments.get(), begin, end); },
          [&](int64_t begin, int64_t end) {
            batch_norm_statistics(problem, moments.get(), mean.data(), var.data(), begin, end);
            batch_norm_coefficients(problem, known, coefficients.get(), begin, end);
          },
          apply);
    } else {
      batch_norm_coefficients(problem, known, coefficients.get(), 0, channels);
      parallel(plan.items, kElementsPerTask * plan.items / image.dense.numel() + 1, apply);
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
  return {per_channel(mean, image.wide()), per_channel(var, image.wide()), moved(running_mean, known_mean, mean, 1),
          moved(running_var, known_var, var, unbiased), bits};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> fused_batch_norm_op(
    const Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias, const OptionalTensor& running_mean,
    const OptionalTensor& running_var, bool training, double momentum, double eps, const OptionalTensor& residual,
    int64_t activation, bool with_bits) {
  const Image image(input);
  Tensor out = image.empty();
  return std::tuple_cat(std::make_tuple(out),
                        normalise(image, out.mutable_data_ptr(), weight, bias, running_mean, running_var, training,
                                  momentum, eps, residual, activation, with_bits));
}

Found fused_batch_norm_in_place_op(Tensor input, const OptionalTensor& weight, const OptionalTensor& bias,
                                   const OptionalTensor& running_mean, const OptionalTensor& running_var, bool training,
                                   double momentum, double eps, const OptionalTensor& residual, int64_t activation,
                                   bool with_bits) {
  const Image image(input);
  check(image.dense.const_data_ptr() == input.const_data_ptr(), "input: expected a dense one, which is overwritten");
  return normalise(image, input.mutable_data_ptr(), weight, bias, running_mean, running_var, training, momentum, eps,
                   residual, activation, with_bits);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "fused_batch_norm_native(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
      "bool training, float momentum, float eps, Tensor? residual, int activation, bool with_bits) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "fused_batch_norm_in_place_native(Tensor(a!) input, Tensor? weight, Tensor? bias, Tensor? running_mean, "
      "Tensor? running_var, bool training, float momentum, float eps, Tensor? residual, int activation, "
      "bool with_bits) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("fused_batch_norm_native", TORCH_BOX(&fused_batch_norm_op));
  m.impl("fused_batch_norm_in_place_native", TORCH_BOX(&fused_batch_norm_in_place_op));
}

}  // namespace visionops
