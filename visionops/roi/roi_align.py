"""RoIAlign: bilinear samples of a feature map in the bins of each region, averaged or their maximum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._layout import empty_image, is_channels_last
from visionops._op import ONCE, Gradient, Op
from visionops.roi._boxes import check_map, fold_batch, rois_of


def _fake(
    input: Tensor,
    boxes: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return empty_image(input, input.shape[1], pooled_height, pooled_width, batch=boxes.shape[0])


def _fake_backward(
    grad: Tensor,
    boxes: Tensor,
    batch: int,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    channels_last: bool,
    deterministic: bool,
) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(
        (batch, grad.shape[1], height, width), dtype=grad.dtype, device=grad.device, memory_format=layout
    )


def _vmap(raw: Any, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Tensor, int]:
    input, boxes, *rest = args
    (input,), boxes, restore = fold_batch(info.batch_size, [input], in_dims[:1], boxes, in_dims[1])
    return restore(raw(input, boxes, *rest))


def _vmap_backward(raw: Any, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Tensor, int]:
    grad, boxes, batch, *rest = args
    (grad,), boxes, restore = fold_batch(info.batch_size, [grad], in_dims[:1], boxes, in_dims[1], images=batch)
    calls = 1 if in_dims[1] is None else info.batch_size
    return restore(raw(grad, boxes, calls * batch, *rest))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, boxes, _, _, *ctx.rest = inputs
    ctx.save_for_backward(boxes)
    ctx.sizes = input.shape[0], *input.shape[2:]
    ctx.channels_last = is_channels_last(input)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    how = *ctx.rest, ctx.channels_last, torch.are_deterministic_algorithms_enabled()
    return ROI_ALIGN_BACKWARD(grad, boxes, *ctx.sizes, *how, backend=ctx.backend), *(None,) * 6


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, boxes, _, _, _, *rest, _, _ = inputs
    ctx.save_for_backward(boxes)
    ctx.rest = *grad.shape[2:], *rest


def _backward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # The mean is linear in the map: what was its gradient's is the mean again.
    (boxes,) = ctx.saved_tensors
    return ROI_ALIGN(grad, boxes, *ctx.rest, backend=ctx.backend), *(None,) * 9


ROI_ALIGN_BACKWARD = Op(
    "roi_align_backward",
    fake=_fake_backward,
    vmap=_vmap_backward,
    gradient=Gradient(_save_backward, _backward_backward),
)
ROI_ALIGN = Op("roi_align", fake=_fake, vmap=_vmap, gradient=Gradient(_save, _backward))


def _fake_max_backward(
    grad: Tensor,
    input: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    deterministic: bool,
) -> Tensor:
    return empty_image(input, *input.shape[1:])


def _vmap_max_backward(raw: Any, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Tensor, int]:
    grad, input, boxes, *rest = args
    dims = in_dims[1], in_dims[0]
    images = input.shape[1 if in_dims[1] == 0 else 0]
    (input, grad), boxes, restore = fold_batch(info.batch_size, [input, grad], dims, boxes, in_dims[2], images=images)
    return restore(raw(grad, input, boxes, *rest))


def _save_max(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, boxes, _, _, *ctx.rest = inputs
    # Which sample was the greatest is found again: no indices are stored.
    ctx.save_for_backward(input, boxes)


def _backward_max(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    how = *ctx.rest, torch.are_deterministic_algorithms_enabled()
    return ROI_ALIGN_MAX_BACKWARD(grad, *ctx.saved_tensors, *how, backend=ctx.backend), *(None,) * 6


ROI_ALIGN_MAX_BACKWARD = Op("roi_align_max_backward", fake=_fake_max_backward, vmap=_vmap_max_backward, gradient=ONCE)
ROI_ALIGN_MAX = Op("roi_align_max", fake=_fake, vmap=_vmap, gradient=Gradient(_save_max, _backward_max))


@ROI_ALIGN.public
def roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    mode: str = "avg",
    backend: str | None = None,
) -> Tensor:
    """Pool each region of interest from a map to a fixed size, without rounding its coordinates.

    A region, scaled to the map, is divided into bins, and each bin has a grid of samples at (i + 1/2) / n of its
    sides. A sample is interpolated between the four pixels around it; up to one pixel outside the map it reads the
    border, further out it is 0. The result is the mean of a bin's samples, or their maximum. Per region the mean is
    Y F X^T, F the map: its weights are computed per row and per column, not per sample.

    A region with a NaN or an infinity gives zeros and no gradient. NaN and infinity in the map spread to the bins
    that sample them and to no others.

    Args:
        input: (B, C, H, W), floating, in either memory format, which is also the result's.
        boxes: (K, 5) rows (index of the image, x1, y1, x2, y2), or for each image a tensor (K_i, 4); floating or
            integer of any dtype. Coordinates keep their dtype and are computed with in float64.
        output_size: Bins, as (height, width) or one number for both.
        spatial_scale: Pixels of the map for one unit of the boxes' coordinates.
        sampling_ratio: Samples a bin has along each axis; if not positive, the extent of a bin rounded up.
        aligned: Shift the regions by half a pixel, so that a pixel's value lies at its centre. Otherwise, as in the
            first versions of the operation, a region is at least one pixel wide and high.
        mode: "avg" or "max".
        backend: "native", or None for the first that can run.

    Returns:
        (K, C, height, width) in the dtype of `input`. Differentiable in `input`: twice by "avg", once by "max". The
        gradient is the same from run to run, on the CPU for any number of threads, on a GPU where
        torch.use_deterministic_algorithms() asks for that.

    Raises:
        ValueError: a shape, the mode, the output_size or, on the CPU, the index of an image does not fit.
        TypeError: not tensors of numbers on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: He et al., Mask R-CNN, arXiv:1703.06870, section 3.

    >>> ramp = torch.arange(16.0).view(1, 1, 4, 4)
    >>> roi_align(ramp, [torch.tensor([[0.0, 0, 4, 4]])], 2, aligned=True)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    check_map("input", input)
    rois = rois_of(boxes, input)
    height, width = _check.pair("output_size", output_size, 1)
    _check.number("spatial_scale", spatial_scale)
    _check.integer("sampling_ratio", sampling_ratio)
    _check.one_of("mode", mode, ("avg", "max"))
    op = ROI_ALIGN if mode == "avg" else ROI_ALIGN_MAX
    options = (height, width, float(spatial_scale), sampling_ratio, bool(aligned))
    return op(input, rois, *options, backend=backend)  # type: ignore[no-any-return]
