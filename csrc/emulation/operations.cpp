// The operations by which tests steer the emulation.
#include <torch/csrc/stable/library.h>

#include "emulation/emulation.h"

namespace visionops::emulation {
namespace {

void seed_op(int64_t seed) { set_seed(static_cast<uint64_t>(seed)); }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(visionops, m) {
  m.def("emulation_seed(int seed) -> ()");
  m.def("emulation_skip_barrier(int place) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(visionops, CompositeExplicitAutograd, m) {
  m.impl("emulation_seed", TORCH_BOX(&seed_op));
  m.impl("emulation_skip_barrier", TORCH_BOX(&skip_barrier));
}

}  // namespace visionops::emulation
