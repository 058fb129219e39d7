// Tensors to pointers for the gradient through an activation.
#include "conv/activation.h"
#include "conv/convolution_torch.h"

namespace visionops {
namespace {

Tensor activation_backward_op(const Tensor& grad, const Tensor& value, int64_t activation) {
  check_images(value, grad);
  check(activation >= 0 && activation <= kLastActivation, "activation: expected 0 to 6");
  for (int64_t d = 0; d < 4; ++d) check(grad.size(d) == value.size(d), "grad: expected the shape of the result");
  const Tensor at = as_dense_image(value);
  const bool last = is_channels_last(at);
  const Tensor from = in_layout(grad, last);
  Tensor out = empty_image(at.size(0), at.size(1), at.size(2), at.size(3), last, at.scalar_type());
  void* data = out.mutable_data_ptr();
  parallel(at.numel(), kValuesPerTask, [&](int64_t begin, int64_t end) {
    activation_backward(from.const_data_ptr(), at.const_data_ptr(), dtype_of(at), static_cast<Activation>(activation),
                        data, begin, end);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def("activation_backward_native(Tensor grad, Tensor value, int activation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("activation_backward_native", TORCH_BOX(&activation_backward_op));
}

}  // namespace visionops
