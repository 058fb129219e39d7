// Convolution on the CPU: panels packed straight from the image into a blocked matrix product.
#include "conv/convolution.h"

#include "conv/factors.h"
#include "conv/pointwise.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// Calls f(factors) with the first group's factors.
template <class F>
void visit_factors(const ConvolutionProblem& p, F&& f) {
  visit_floating(p.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (p.channels_last) {
      f(Tag<ChannelsLast<T>>{});
    } else {
      f(Tag<ChannelsFirst<T>>{});
    }
  });
}

}  // namespace

int64_t convolution_scratch_bytes() {
  return product_scratch_bytes<double>() > product_scratch_bytes<float>() ? product_scratch_bytes<double>()
                                                                          : product_scratch_bytes<float>();
}

int64_t convolution_items(const ConvolutionProblem& problem) {
  int64_t items = 0;
  if (visit_pointwise(problem, nullptr, [&](const auto& product) { items = product.items(); })) return items;
  visit_factors(problem, [&](auto tag) {
    using Factors = typename decltype(tag)::type;
    const Factors factors(problem, 0);
    items = problem.groups * Product<typename Factors::C, Factors>(factors, nullptr).items();
  });
  return items;
}

void convolution(const ConvolutionProblem& problem, void* scratch, int64_t begin, int64_t end) {
  if (visit_pointwise(problem, scratch, [&](auto&& product) { product.run(begin, end); })) return;
  visit_factors(problem, [&](auto tag) {
    using Factors = typename decltype(tag)::type;
    const int64_t items = convolution_items(problem) / problem.groups;
    for (int64_t group = begin / items; group * items < end; ++group) {
      const Factors factors(problem, group);
      const int64_t from = begin - group * items, to = end - group * items;
      Product<typename Factors::C, Factors>(factors, scratch).run(from > 0 ? from : 0, to < items ? to : items);
    }
  });
}

}  // namespace visionops::VISIONOPS_ISA
