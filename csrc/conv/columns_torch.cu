// Tensors to pointers for the column matrix of room `conv` on a GPU, and registration; emulated, the same on the CPU.
#include "common/device_torch.cuh"
#include "conv/columns_torch.h"
#include "conv/im2col_cuda.h"

namespace visionops {
namespace {

using namespace VISIONOPS_ISA;

Tensor im2col_op(const Tensor& input, const Ints& kernel_size, const Ints& dilation, const Ints& padding,
                 const Ints& stride) {
  const ColumnsProblem problem = im2col_problem(input, kernel_size, dilation, padding, stride);
  const DeviceGuard guard(input);
  Tensor columns = empty_on(
      input,
      {problem.batch, problem.channels * kernel_size[0] * kernel_size[1], problem.out_height * problem.out_width},
      input.scalar_type());
  im2col_cuda(problem, input.const_data_ptr(), {input.stride(0), input.stride(1), input.stride(2), input.stride(3)},
              columns.mutable_data_ptr(), current_stream(input));
  return columns;
}

Tensor col2im_op(const Tensor& input, const Ints& output_size, const Ints& kernel_size, const Ints& dilation,
                 const Ints& padding, const Ints& stride) {
  const ColumnsProblem problem = col2im_problem(input, output_size, kernel_size, dilation, padding, stride);
  const DeviceGuard guard(input);
  const Tensor columns = as_contiguous(input);
  Tensor image = empty_on(input, {problem.batch, problem.channels, problem.height, problem.width}, input.scalar_type());
  col2im_cuda(problem, columns.const_data_ptr(), image.mutable_data_ptr(), current_stream(input));
  return image;
}

}  // namespace

#ifdef VISIONOPS_EMULATION
STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(im2col_schema("im2col_emulated").c_str());
  m.def(col2im_schema("col2im_emulated").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("im2col_emulated", TORCH_BOX(&im2col_op));
  m.impl("col2im_emulated", TORCH_BOX(&col2im_op));
}
#else
STABLE_TORCH_LIBRARY_IMPL(visionops, CUDA, m) {
  m.impl("im2col_native", TORCH_BOX(&im2col_op));
  m.impl("col2im_native", TORCH_BOX(&col2im_op));
}
#endif

}  // namespace visionops
