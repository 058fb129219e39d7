// Box formats on the CPU: each conversion is a small linear map, the same for x and y; backward is its transpose.
#include "boxes/box_convert.h"

namespace visionops::VISIONOPS_ISA {
namespace {

/// What a format says of one axis: low and high end, low end and length, or centre and length.
template <class C>
struct Axis {
  C first, second;
};

/// Straight from one format to the other: by way of xyxy a length would be rounded twice.
template <class C>
Axis<C> convert(BoxFormat from, BoxFormat to, Axis<C> axis) {
  const C a = axis.first, b = axis.second;
  switch (from) {
    case BoxFormat::xyxy:
      if (to == BoxFormat::xywh) return {a, b - a};
      if (to == BoxFormat::cxcywh) return {(a + b) / 2, b - a};
      return axis;
    case BoxFormat::xywh:
      if (to == BoxFormat::xyxy) return {a, a + b};
      if (to == BoxFormat::cxcywh) return {a + b / 2, b};
      return axis;
    default:
      if (to == BoxFormat::xyxy) return {a - b / 2, a + b / 2};
      if (to == BoxFormat::xywh) return {a - b / 2, b};
      return axis;
  }
}

/// The gradient by what convert took, given that by what it returned.
template <class C>
Axis<C> convert_transposed(BoxFormat from, BoxFormat to, Axis<C> grad) {
  const C a = grad.first, b = grad.second;
  switch (from) {
    case BoxFormat::xyxy:
      if (to == BoxFormat::xywh) return {a - b, b};
      if (to == BoxFormat::cxcywh) return {a / 2 - b, a / 2 + b};
      return grad;
    case BoxFormat::xywh:
      if (to == BoxFormat::xyxy) return {a + b, b};
      if (to == BoxFormat::cxcywh) return {a, a / 2 + b};
      return grad;
    default:
      if (to == BoxFormat::xyxy) return {a + b, b / 2 - a / 2};
      if (to == BoxFormat::xywh) return {a, b - a / 2};
      return grad;
  }
}

template <BoxFormat from, BoxFormat to, class T>
void convert_boxes(const T* __restrict boxes, Result<T>* __restrict out, int64_t count) {
  using C = Compute<T>;
  for (int64_t i = 0; i < 4 * count; i += 4) {
    const Axis<C> x = convert<C>(from, to, {to_compute(boxes[i]), to_compute(boxes[i + 2])});
    const Axis<C> y = convert<C>(from, to, {to_compute(boxes[i + 1]), to_compute(boxes[i + 3])});
    out[i] = x.first;
    out[i + 1] = y.first;
    out[i + 2] = x.second;
    out[i + 3] = y.second;
  }
}

template <BoxFormat value>
struct FormatTag {
  static constexpr BoxFormat format = value;
};

/// Calls f with both formats as types: the switches above are decided before the loop over boxes.
template <class F>
void visit_formats(BoxFormat from, BoxFormat to, F&& f) {
  const auto visit = [](BoxFormat format, auto&& g) {
    switch (format) {
      case BoxFormat::xyxy: return g(FormatTag<BoxFormat::xyxy>{});
      case BoxFormat::xywh: return g(FormatTag<BoxFormat::xywh>{});
      default: return g(FormatTag<BoxFormat::cxcywh>{});
    }
  };
  visit(from, [&](auto from_tag) { visit(to, [&](auto to_tag) { f(from_tag, to_tag); }); });
}

}  // namespace

void box_convert(const void* boxes, DType dtype, BoxFormat in_format, BoxFormat out_format, void* out, int64_t begin,
                 int64_t end) {
  visit_number(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* in = static_cast<const T*>(boxes) + 4 * begin;
    Result<T>* converted = static_cast<Result<T>*>(out) + 4 * begin;
    visit_formats(in_format, out_format, [&](auto from, auto to) {
      constexpr auto convert_some = [](const auto* some, auto* result, int64_t count) {
        convert_boxes<decltype(from)::format, decltype(to)::format>(some, result, count);
      };
      if constexpr (std::is_same_v<Result<T>, Compute<T>>) {
        convert_some(in, converted, end - begin);
      } else {
        through_float<4, 4>(in, converted, end - begin, convert_some);
      }
    });
  });
}

void box_convert_backward(const void* grad, DType dtype, BoxFormat in_format, BoxFormat out_format, void* grad_boxes,
                          int64_t begin, int64_t end) {
  visit_floating(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    visit_formats(in_format, out_format, [&](auto from, auto to) {
      const T* __restrict weights = static_cast<const T*>(grad);
      T* __restrict by_box = static_cast<T*>(grad_boxes);
      for (int64_t i = 4 * begin; i < 4 * end; i += 4) {
        const Axis<C> x =
            convert_transposed<C>(from.format, to.format, {to_compute(weights[i]), to_compute(weights[i + 2])});
        const Axis<C> y =
            convert_transposed<C>(from.format, to.format, {to_compute(weights[i + 1]), to_compute(weights[i + 3])});
        by_box[i] = gradient_from<T>(x.first);
        by_box[i + 1] = gradient_from<T>(y.first);
        by_box[i + 2] = gradient_from<T>(x.second);
        by_box[i + 3] = gradient_from<T>(y.second);
      }
    });
  });
}

}  // namespace visionops::VISIONOPS_ISA
