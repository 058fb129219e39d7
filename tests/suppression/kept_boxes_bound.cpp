// The hardest pairs for the pruning of kept_boxes.h: IoU just above the threshold, a cell boundary between the centres.
// Prints how many pairs were tried and how many of them had such a boundary; fails if one suppression was missed.
#include "suppression/kept_boxes.h"

#include <cmath>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

using namespace visionops::VISIONOPS_ISA;

namespace {

std::mt19937_64 generator(7);

double uniform() { return std::uniform_real_distribution<double>(0, 1)(generator); }

double pick_threshold() {
  const double kind = uniform();
  if (kind < 0.2) return std::pow(10.0, -8 * uniform());
  if (kind < 0.4) return 1 - std::pow(10.0, -7 * uniform());
  return uniform();
}

// Two boxes of equal height whose IoU is about `threshold`: the bound is sharp for both kinds.
template <class T>
std::pair<Box<T>, Box<T>> pick_pair(double threshold, T offset) {
  // Some areas are among the subnormals, where an intersection has few digits.
  const double tiny = sizeof(T) == 8 ? 1e-158 : 1e-20;
  const double scale = uniform() < 0.5 ? 1 : uniform() < 0.2 ? tiny : std::pow(10.0, uniform() * 12 - 6);
  const double narrow = std::exp(uniform() * 12 - 6) * scale;
  const double digits = sizeof(T) == 8 ? 51 : 22;
  const double x = uniform() < 0.5 ? 0 : (uniform() - 0.5) * narrow * std::pow(2.0, uniform() * digits);
  const double near = 1 + (uniform() - 0.5) * (uniform() < 0.5 ? 1e-2 : uniform() < 0.5 ? 1e-6 : 1e-15);
  const double height = narrow * (0.5 + uniform());
  double start = x, width = narrow / threshold * near;  // one inside the other, flush left
  if (uniform() < 0.4) {                                // equal, shifted
    start = x + narrow * (1 - threshold) / (1 + threshold) * near;
    width = narrow;
  }
  Box<T> a{T(start), T(0), T(start + width - offset), T(height)};
  Box<T> b{T(x), T(0), T(x + narrow - offset), T(height)};
  if (uniform() < 0.5) std::swap(a, b);
  if (uniform() < 0.5) {
    for (Box<T>* box : {&a, &b}) {
      std::swap(box->x1, box->y1);
      std::swap(box->x2, box->y2);
    }
  }
  return {a, b};
}

// Two cells, the boundary next to the kept box's centre on the candidate's side.
Axis boundary_at(double kept, double candidate) {
  Axis axis;
  axis.cells = 2;
  axis.per_unit = 1 / (std::abs(kept) + std::abs(candidate) + 1e-300);
  axis.origin = kept - 1 / axis.per_unit;
  if (candidate <= kept) {
    for (int i = 0; i < 60 && axis.cell(kept) == 0; ++i) axis.origin = std::nextafter(axis.origin, -1e300);
  } else {
    while (axis.cell(kept) == 1) axis.origin = std::nextafter(axis.origin, 1e300);
  }
  return axis;
}

template <class T>
bool misses_none(const char* type, int trials) {
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> memory(KeptBoxes<T>::bytes(2, 2) / 64 + 1);
  int pairs = 0, parted = 0;
  for (int i = 0; i < trials; ++i) {
    const T threshold = T(pick_threshold()), offset = uniform() < 0.5 ? 1 : 0;
    if (!(threshold > 0 && threshold < 1)) continue;
    const auto [a, b] = pick_pair<T>(threshold, offset);
    const Rule<T> rule(threshold, offset);
    const Candidate<T> kept(a, offset), candidate(b, offset);
    if (!kept.interacts() || !candidate.interacts()) continue;
    if (!(iou(a, kept.area, b, candidate.area, offset) > threshold)) continue;
    ++pairs;
    for (const bool along_x : {true, false}) {
      const Axis x = along_x ? boundary_at(kept.x, candidate.x) : Axis{};
      const Axis y = along_x ? Axis{} : boundary_at(kept.y, candidate.y);
      parted += x.cell(kept.x) != x.cell(candidate.x) || y.cell(kept.y) != y.cell(candidate.y);
      KeptBoxes<T> boxes(rule, Grid{x, y}, memory.front().bytes);
      boxes.add(kept);
      if (boxes.suppress(candidate)) continue;
      std::printf(
          "%s: threshold %.17g, offset %g: (%.17g, %.17g, %.17g, %.17g) was not found to suppress (%.17g, %.17g, "
          "%.17g, %.17g)\n",
          type, double(threshold), double(offset), double(a.x1), double(a.y1), double(a.x2), double(a.y2), double(b.x1),
          double(b.y1), double(b.x2), double(b.y2));
      return false;
    }
  }
  std::printf("%s: %d pairs, a boundary between the centres of %d\n", type, pairs, parted);
  return pairs > trials / 10 && parted > trials / 100;
}

}  // namespace

int main() { return misses_none<float>("float", 300'000) && misses_none<double>("double", 300'000) ? 0 : 1; }
