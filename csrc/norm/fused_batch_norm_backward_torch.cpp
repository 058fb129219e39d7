// Tensors to pointers for room `norm`, backward: schemas, the checks that memory safety needs, and registration.
#include <tuple>

#include "norm/norm_torch.h"

namespace visionops {
namespace {

// Which gradients are asked for, and what the forward call was.
struct Asked {
  bool training, with_affine, with_residual, from_output;
  Activation activation;
};

// Gradients of input, weight, bias and residual; what is not asked for is empty. `input` is null where none depends
// on it.
std::tuple<Tensor, Tensor, Tensor, Tensor> gradients(const Image& image, const void* input, const Tensor& grad,
                                                     const BatchNormChannels& known, const OptionalTensor& residual,
                                                     const Tensor& bits, const Asked& asked) {
  const int64_t channels = image.channels;
  const Tensor arriving = image.like(grad, "grad: expected the shape and dtype of input");
  const Tensor other =
      residual.has_value() ? image.like(*residual, "residual: expected the shape and dtype of input") : image.dense;
  const bool kinked = is_kinked(asked.activation);
  check(bits.scalar_type() == ScalarType::Byte && bits.is_contiguous(), "bits: expected a contiguous uint8");

  Tensor grad_input = image.empty();
  Tensor grad_residual = asked.with_residual ? image.empty() : nothing(grad.scalar_type());
  std::vector<double> grad_weight(asked.with_affine ? channels : 0), grad_bias(grad_weight.size());
  if (grad.numel() > 0) {
    const bool sums_first = asked.training || asked.with_affine;
    const BatchNormProblem problem = image.problem(input, residual.has_value() ? other.const_data_ptr() : nullptr,
                                                   asked.activation, sums_first ? 2 : 0);
    const BatchNormPlan plan = batch_norm_plan(problem);
    check(!kinked || bits.numel() == plan.bit_bytes, "bits: expected those of the forward call");
    const BatchNormGradient gradient = {arriving.const_data_ptr(), static_cast<const uint8_t*>(bits.const_data_ptr()),
                                        asked.training, asked.from_output};
    void* data = grad_input.mutable_data_ptr();
    void* residual_data = asked.with_residual ? grad_residual.mutable_data_ptr() : nullptr;
    const Scratch coefficients = scratch(5 * plan.coefficients);
    batch_norm_coefficients(problem, known, coefficients.get(), 0, channels);
    const auto apply = [&](int64_t begin, int64_t end) {
      fused_batch_norm_backward(problem, gradient, coefficients.get(), data, residual_data, begin, end);
    };
    if (sums_first) {
      grad_weight.resize(channels), grad_bias.resize(channels);
      const Scratch sums = scratch(2 * plan.moments);
      in_steps(
          problem, plan,
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
  const auto of_parameter = [&](const std::vector<double>& values) {
    return asked.with_affine ? per_channel(values, image.wide()) : nothing(image.wide());
  };
  return {grad_input, of_parameter(grad_weight), of_parameter(grad_bias), grad_residual};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fused_batch_norm_backward_op(
    const Tensor& grad, const OptionalTensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
    const Tensor& mean, const Tensor& var, const OptionalTensor& residual, const Tensor& bits, bool training,
    double eps, int64_t activation, bool with_affine, bool with_residual) {
  // Without input, a gradient that needs bits is laid out as the input was, which they tell.
  const Image image = input.has_value() ? Image(*input) : bits.dim() > 1 ? Image(grad, bits.dim() == 2) : Image(grad);
  const Activation function = activation_of(activation);
  check(!with_residual || function != Activation::none, "with_residual: without activation that gradient is grad");
  const bool reads_input = training || with_affine || (function != Activation::none && !is_kinked(function));
  check(input.has_value() || !reads_input || grad.numel() == 0, "input: expected a tensor, for this gradient needs it");
  const PerChannel gain(weight, image.channels, "weight: expected a floating (C,)");
  const PerChannel offset(bias, image.channels, "bias: expected a floating (C,)");
  const PerChannel known_mean(mean, image.channels, "mean: expected a floating (C,)");
  const PerChannel known_var(var, image.channels, "var: expected a floating (C,)");
  const BatchNormChannels known = {gain.data(), offset.data(), known_mean.data(), known_var.data(), eps};
  const Asked asked = {training, with_affine, with_residual, false, function};
  return gradients(image, reads_input ? image.dense.const_data_ptr() : nullptr, grad, known, residual, bits, asked);
}

// Of a call whose output lies where its input was, no weight being 0: gradients of input, weight and bias.
std::tuple<Tensor, Tensor, Tensor> fused_batch_norm_in_place_backward_op(const Tensor& grad, const Tensor& output,
                                                                         const OptionalTensor& weight,
                                                                         const OptionalTensor& bias, const Tensor& var,
                                                                         const Tensor& bits, bool training, double eps,
                                                                         int64_t activation, bool with_affine) {
  const Image image(output);
  const Activation function = activation_of(activation);
  check(function == Activation::none || function == Activation::leaky_relu,
        "activation: expected one that can be inverted");
  const PerChannel gain(weight, image.channels, "weight: expected a floating (C,)");
  const PerChannel offset(bias, image.channels, "bias: expected a floating (C,)");
  const PerChannel known_var(var, image.channels, "var: expected a floating (C,)");
  const std::vector<double> no_mean(image.channels);
  const BatchNormChannels known = {gain.data(), offset.data(), no_mean.data(), known_var.data(), eps};
  const Asked asked = {training, with_affine, false, true, function};
  const auto found = gradients(image, image.dense.const_data_ptr(), grad, known, std::nullopt, bits, asked);
  return {std::get<0>(found), std::get<1>(found), std::get<2>(found)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(
      "fused_batch_norm_backward_native(Tensor grad, Tensor? input, Tensor? weight, Tensor? bias, Tensor mean, "
      "Tensor var, Tensor? residual, Tensor bits, bool training, float eps, int activation, bool with_affine, "
      "bool with_residual) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "fused_batch_norm_in_place_backward_native(Tensor grad, Tensor output, Tensor? weight, Tensor? bias, Tensor var, "
      "Tensor bits, bool training, float eps, int activation, bool with_affine) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("fused_batch_norm_backward_native", TORCH_BOX(&fused_batch_norm_backward_op));
  m.impl("fused_batch_norm_in_place_backward_native", TORCH_BOX(&fused_batch_norm_in_place_backward_op));
}

}  // namespace visionops
