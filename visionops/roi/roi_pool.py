"""RoIPool: the maximum of a feature map in the bins of each region, whose edges are rounded to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._layout import empty_image
from visionops._op import ONCE, Gradient, Op, needs_autograd
from visionops.roi._boxes import check_map, fold_batch, rois_of


def _fake(input: Tensor, boxes: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float) -> Tensor:
    return empty_image(input, input.shape[1], pooled_height, pooled_width, batch=boxes.shape[0])


def _fake_with_argmax(
    input: Tensor, boxes: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float
) -> tuple[Tensor, Tensor]:
    output = _fake(input, boxes, pooled_height, pooled_width, spatial_scale)
    return output, torch.empty_like(output, dtype=torch.int32)


def _fake_backward(
    grad: Tensor,
    argmax: Tensor,
    boxes: Tensor,
    batch: int,
    height: int,
    width: int,
    spatial_scale: float,
    deterministic: bool,
) -> Tensor:
    return empty_image(argmax, argmax.shape[1], height, width, batch=batch, dtype=grad.dtype)


def _vmap(raw: Any, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
    input, boxes, *rest = args
    (input,), boxes, restore = fold_batch(info.batch_size, [input], in_dims[:1], boxes, in_dims[1])
    outputs = raw(input, boxes, *rest)
    if not isinstance(outputs, tuple):
        return restore(outputs)
    results, dims = zip(*map(restore, outputs), strict=True)
    return results, dims


def _vmap_backward(raw: Any, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Tensor, int]:
    grad, argmax, boxes, batch, *rest = args
    maps, boxes, restore = fold_batch(info.batch_size, [grad, argmax], in_dims[:2], boxes, in_dims[2], images=batch)
    calls = 1 if in_dims[2] is None else info.batch_size
    return restore(raw(*maps, boxes, calls * batch, *rest))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    input, boxes, _, _, ctx.spatial_scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], boxes)
    ctx.sizes = input.shape[0], *input.shape[2:]


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    how = ctx.spatial_scale, torch.are_deterministic_algorithms_enabled()
    return ROI_POOL_BACKWARD(grad, *ctx.saved_tensors, *ctx.sizes, *how, backend=ctx.backend), *(None,) * 4


# Values alone, where nobody will ask for a gradient.
ROI_POOL = Op("roi_pool", fake=_fake, vmap=_vmap)
# Also the number of each bin's first greatest pixel in its plane, y * width + x; 2^32 - 1, here -1, for none.
ROI_POOL_WITH_ARGMAX = Op(
    "roi_pool_with_argmax", fake=_fake_with_argmax, vmap=_vmap, gradient=Gradient(_save, _backward)
)
ROI_POOL_BACKWARD = Op("roi_pool_backward", fake=_fake_backward, vmap=_vmap_backward, gradient=ONCE)


@ROI_POOL_WITH_ARGMAX.public
def roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    backend: str | None = None,
) -> Tensor:
    """Pool each region of interest from a map to a fixed size: the maximum of the pixels in each bin.

    Coordinates are rounded twice. The region's ends, scaled to the map, become the pixels floor(v + 1/2) (mirrored
    below 0), both inside. Of its h rows bin p of P has those from floor(p h / P) up to ceil((p + 1) h / P), computed
    in whole numbers; bins of one region may share a row or column. A bin without a pixel on the map is 0 and has no
    gradient.

    A NaN is greater than every number, and -inf stays -inf. A region with a NaN or an infinity gives zeros and no
    gradient. For a gradient four bytes per bin are kept, where its maximum stands; the map is not.

    Args:
        input: (B, C, H, W), floating, in either memory format, which is also the result's.
        boxes: (K, 5) rows (index of the image, x1, y1, x2, y2), or for each image a tensor (K_i, 4); floating or
            integer of any dtype. Coordinates keep their dtype and are computed with in float64.
        output_size: Bins, as (height, width) or one number for both.
        spatial_scale: Pixels of the map for one unit of the boxes' coordinates.
        backend: "native", or None for the first that can run.

    Returns:
        (K, C, height, width) in the dtype of `input`. Differentiable once in `input`: a bin's gradient goes to the
        first of its greatest pixels, row by row. It is the same from run to run on the CPU, and on a GPU where
        torch.use_deterministic_algorithms() asks for that.

    Raises:
        ValueError: a shape, the output_size or, on the CPU, the index of an image does not fit; for a gradient, a plane
            of 2**32 pixels.
        TypeError: not tensors of numbers on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Girshick, Fast R-CNN, arXiv:1504.08083, section 2.1.

    >>> ramp = torch.arange(16.0).view(1, 1, 4, 4)
    >>> roi_pool(ramp, [torch.tensor([[0.0, 0, 3, 2]])], 2)
    tensor([[[[ 5.,  7.],
              [ 9., 11.]]]])
    """
    check_map("input", input)
    rois = rois_of(boxes, input)
    height, width = _check.pair("output_size", output_size, 1)
    _check.number("spatial_scale", spatial_scale)
    arguments = input, rois, height, width, float(spatial_scale)
    if needs_autograd((input, rois)):
        return ROI_POOL_WITH_ARGMAX(*arguments, backend=backend)[0]  # type: ignore[no-any-return]
    return ROI_POOL(*arguments, backend=backend)  # type: ignore[no-any-return]
