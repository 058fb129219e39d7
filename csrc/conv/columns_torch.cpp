// Tensors to pointers for what only moves values in room `conv`: columns and channel shuffle.
#include "conv/columns_torch.h"
#include "conv/channel_shuffle.h"

namespace visionops {
namespace {

constexpr int64_t kValuesPerTask = 32768;

int64_t grain(const ColumnsProblem& p) {
  const int64_t values = p.window.kernel_h * p.window.kernel_w * p.out_height * p.out_width + p.height * p.width;
  return kValuesPerTask / (values + 1) + 1;
}

Tensor im2col_op(const Tensor& input, const Ints& kernel_size, const Ints& dilation, const Ints& padding,
                 const Ints& stride) {
  ColumnsProblem problem = im2col_problem(input, kernel_size, dilation, padding, stride);
  const Tensor in = as_dense_image(input);
  problem.channels_last = is_channels_last(in);
  Tensor out =
      empty({problem.batch, problem.channels * kernel_size[0] * kernel_size[1], problem.out_height * problem.out_width},
            in.scalar_type());
  void* data = out.mutable_data_ptr();
  parallel(problem.batch * problem.channels, grain(problem),
           [&](int64_t begin, int64_t end) { im2col(problem, in.const_data_ptr(), data, begin, end); });
  return out;
}

Tensor col2im_op(const Tensor& input, const Ints& output_size, const Ints& kernel_size, const Ints& dilation,
                 const Ints& padding, const Ints& stride) {
  const ColumnsProblem problem = col2im_problem(input, output_size, kernel_size, dilation, padding, stride);
  const Tensor in = as_contiguous(input);
  Tensor out = empty({problem.batch, problem.channels, problem.height, problem.width}, in.scalar_type());
  void* data = out.mutable_data_ptr();
  parallel(problem.batch * problem.channels, grain(problem),
           [&](int64_t begin, int64_t end) { col2im(problem, in.const_data_ptr(), data, begin, end); });
  return out;
}

Tensor channel_shuffle_op(const Tensor& input, int64_t groups) {
  check(input.dim() == 4, "input: expected shape (B, C, H, W)");
  check(is_floating(dtype_of(input)), "input: expected a floating dtype");
  check(groups >= 1 && input.size(1) % groups == 0, "groups: expected a divisor of the channels");
  const Tensor in = as_dense_image(input);
  const bool last = is_channels_last(in);
  const ShuffleProblem problem = {dtype_of(in), in.size(0), groups, in.size(1), in.size(2) * in.size(3), last};
  Tensor out = empty_image(in.size(0), in.size(1), in.size(2), in.size(3), last, in.scalar_type());
  void* data = out.mutable_data_ptr();
  const int64_t each = last ? problem.channels : problem.pixels;
  parallel(problem.batch * (last ? problem.pixels : problem.channels), kValuesPerTask / (each + 1) + 1,
           [&](int64_t begin, int64_t end) { channel_shuffle(problem, in.const_data_ptr(), data, begin, end); });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def(im2col_schema("im2col_native").c_str());
  m.def(col2im_schema("col2im_native").c_str());
  m.def("channel_shuffle_native(Tensor input, SymInt groups) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CPU, m) {
  m.impl("im2col_native", TORCH_BOX(&im2col_op));
  m.impl("col2im_native", TORCH_BOX(&col2im_op));
  m.impl("channel_shuffle_native", TORCH_BOX(&channel_shuffle_op));
}

}  // namespace visionops
