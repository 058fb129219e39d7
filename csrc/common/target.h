// What a translation unit is compiled for: host or device, and which instruction set.
//
// Every <op>_cpu.cpp is compiled once per instruction set, with -DVISIONOPS_ISA=v2, v3 or v4, and defines its
// kernels in namespace visionops::VISIONOPS_ISA. Every other file is compiled once, in namespace `host`, and calls
// the kernels through the pointers that VISIONOPS_KERNEL declares. What a header defines for kernels stands in
// namespace visionops::VISIONOPS_ISA too: the linker merges equal weak symbols, and a function merged into its
// AVX-512 copy would crash an AVX2 machine.
#pragma once

#ifdef __CUDACC__
#define VISIONOPS_HD __host__ __device__
#else
#define VISIONOPS_HD
#endif

namespace visionops {

/// Instruction sets, each including the ones before it. Architectures other than x86-64 have `base` alone.
enum class Isa : int { base, v2, v3, v4 };

/// The best instruction set this machine runs, or the one that the environment variable VISIONOPS_ISA names.
Isa selected_isa();

}  // namespace visionops

#ifdef VISIONOPS_ISA

#define VISIONOPS_KERNEL(Signature, name) \
  namespace VISIONOPS_ISA {               \
  Signature name;                         \
  }

#else

#define VISIONOPS_ISA host

#if defined(__x86_64__)
#define VISIONOPS_KERNEL(Signature, name)                                                \
  namespace v2 {                                                                         \
  Signature name;                                                                        \
  }                                                                                      \
  namespace v3 {                                                                         \
  Signature name;                                                                        \
  }                                                                                      \
  namespace v4 {                                                                         \
  Signature name;                                                                        \
  }                                                                                      \
  [[maybe_unused]] static Signature* const name = selected_isa() == Isa::v4   ? v4::name \
                                                  : selected_isa() == Isa::v3 ? v3::name \
                                                                              : v2::name;
#else
#define VISIONOPS_KERNEL(Signature, name) \
  namespace base {                        \
  Signature name;                         \
  }                                       \
  [[maybe_unused]] static Signature* const name = base::name;
#endif

#endif
