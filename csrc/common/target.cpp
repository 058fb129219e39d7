// Picks the instruction set whose kernels run, once, when the library is loaded.
#include "common/target.h"

#include <cstdlib>
#include <cstring>

namespace visionops {
namespace {

Isa pick() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const Isa best = __builtin_cpu_supports("x86-64-v4")   ? Isa::v4
                   : __builtin_cpu_supports("x86-64-v3") ? Isa::v3
                                                         : Isa::v2;
  const char* wanted = std::getenv("VISIONOPS_ISA");
  if (wanted == nullptr) return best;
  // A name that this machine cannot run is left to Python, which compares and raises (visionops/_isa.py).
  if (std::strcmp(wanted, "v2") == 0) return Isa::v2;
  if (std::strcmp(wanted, "v3") == 0 && best >= Isa::v3) return Isa::v3;
  return best;
#else
  return Isa::base;
#endif
}

}  // namespace

Isa selected_isa() {
  static const Isa isa = pick();
  return isa;
}

}  // namespace visionops
