// Allocation of results, and the operation that tells which instruction set is in use.
#include "common/stable_torch.h"

#include <sys/mman.h>

#include <array>

#include "common/target.h"

namespace visionops {
namespace {

constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kLarge = 2 * kHugePage;
constexpr int64_t kMaxDims = 64;

void advise_huge_pages(void* data, int64_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + static_cast<uintptr_t>(bytes)) / kHugePage * kHugePage;
  // Advice only: a kernel without huge pages refuses it, and nothing is lost.
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

Tensor empty_strided(const int64_t* sizes, const int64_t* strides, int64_t dims, ScalarType dtype) {
  int64_t count = 1;
  for (int64_t d = 0; d < dims; ++d) count *= sizes[d];
  const int32_t shim_dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(dims, sizes, strides, shim_dtype, aoti_torch_device_type_cpu(), 0, &handle));
  Tensor tensor(handle);
  const int64_t bytes = count * static_cast<int64_t>(aoti_torch_dtype_element_size(shim_dtype));
  if (bytes >= kLarge) advise_huge_pages(tensor.mutable_data_ptr(), bytes);
  return tensor;
}

int64_t isa() { return static_cast<int64_t>(selected_isa()); }

}  // namespace

Tensor empty(const int64_t* sizes, int64_t dims, ScalarType dtype) {
  check(dims <= kMaxDims, "expected at most 64 dimensions");
  std::array<int64_t, kMaxDims> strides;
  int64_t stride = 1;
  for (int64_t d = dims - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= sizes[d] > 1 ? sizes[d] : 1;
  }
  return empty_strided(sizes, strides.data(), dims, dtype);
}

Tensor empty_image(int64_t batch, int64_t channels, int64_t height, int64_t width, bool channels_last,
                   ScalarType dtype) {
  const std::array<int64_t, 4> sizes = {batch, channels, height, width};
  if (!channels_last) return empty(sizes.data(), 4, dtype);
  const std::array<int64_t, 4> strides = {height * width * channels, 1, width * channels, channels};
  return empty_strided(sizes.data(), strides.data(), 4, dtype);
}

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) { m.def("isa() -> int"); }

STABLE_TORCH_LIBRARY_IMPL(visionops, CompositeExplicitAutograd, m) { m.impl("isa", TORCH_BOX(&isa)); }

}  // namespace visionops
