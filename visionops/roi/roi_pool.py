"""RoIPool: the maximum of a feature map in the bins of each region, whose edges are rounded to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._layout import empty_image
from visionops._op import ONCE, Gradient, Op
from visionops.roi._boxes import check_map, fold_batch, rois_of


def _fake(input: Tensor, boxes: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float) -> Tensor:
    return empty_image(input, input.shape[1], pooled_height, pooled_width, batch=boxes.shape[0])


def _fake_backward(
    grad: Tensor, input: Tensor, boxes: Tensor, output: Tensor, spatial_scale: float, deterministic: bool
) -> Tensor:
    return empty_image(input, *input.shape[1:])


def _vmap(raw: Any, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Tensor, int]:
    input, boxes, *rest = args
    (input,), boxes, restore = fold_batch(info.batch_size, [input], in_dims[:1], boxes, in_dims[1])
    return restore(raw(input, boxes, *rest))


def _vmap_backward(raw: Any, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Tensor, int]:
    grad, input, boxes, output, *rest = args
    grad_dim, input_dim, box_dim, output_dim, *_ = in_dims
    maps, boxes, restore = fold_batch(
        info.batch_size, [input, grad, output], [input_dim, grad_dim, output_dim], boxes, box_dim
    )
    input, grad, output = maps
    return restore(raw(grad, input, boxes, output, *rest))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, boxes, _, _, ctx.spatial_scale = inputs
    # The result says where the maxima are: no indices are stored.
    ctx.save_for_backward(input, boxes, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    how = ctx.spatial_scale, torch.are_deterministic_algorithms_enabled()
    return ROI_POOL_BACKWARD(grad, *ctx.saved_tensors, *how, backend=ctx.backend), *(None,) * 4


ROI_POOL_BACKWARD = Op("roi_pool_backward", fake=_fake_backward, vmap=_vmap_backward, gradient=ONCE)
ROI_POOL = Op("roi_pool", fake=_fake, vmap=_vmap, gradient=Gradient(_save, _backward))


@ROI_POOL.public
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
    gradient.

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
        ValueError: a shape, the output_size or, on the CPU, the index of an image does not fit.
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
    return ROI_POOL(input, rois, height, width, float(spatial_scale), backend=backend)  # type: ignore[no-any-return]
