"""RoIAlign over a feature pyramid: each region from the map of its level, all levels in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._layout import empty_image, is_channels_last
from visionops._op import Op, needs_autograd
from visionops.roi._boxes import check_map, fold_batch, rois_of


def _fake(
    inputs: Sequence[Tensor],
    boxes: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    canonical_size: int,
    canonical_level: int,
    min_level: int,
) -> Tensor:
    return empty_image(inputs[0], inputs[0].shape[1], pooled_height, pooled_width, batch=boxes.shape[0])


def _fake_backward(
    grad: Tensor,
    boxes: Tensor,
    batch: int,
    heights: Sequence[int],
    widths: Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
    canonical_size: int,
    canonical_level: int,
    min_level: int,
    channels_last: bool,
    deterministic: bool,
) -> list[Tensor]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return [
        torch.empty((batch, grad.shape[1], *size), dtype=grad.dtype, device=grad.device, memory_format=layout)
        for size in zip(heights, widths, strict=True)
    ]


def _vmap(raw: Any, info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Tensor, int]:
    inputs, boxes, *rest = args
    dims = in_dims[0] if isinstance(in_dims[0], (list, tuple)) else [in_dims[0]] * len(inputs)
    inputs, boxes, restore = fold_batch(info.batch_size, inputs, dims, boxes, in_dims[1])
    return restore(raw(inputs, boxes, *rest))


def _vmap_backward(raw: Any, info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[list[Tensor], list[int]]:
    grad, boxes, batch, *rest = args
    (grad,), boxes, restore = fold_batch(info.batch_size, [grad], in_dims[:1], boxes, in_dims[1], images=batch)
    calls = 1 if in_dims[1] is None else info.batch_size
    restored = [restore(of_map) for of_map in raw(grad, boxes, calls * batch, *rest)]
    return [tensor for tensor, _ in restored], [dim for _, dim in restored]


MULTISCALE_ROI_ALIGN = Op("multiscale_roi_align", fake=_fake, vmap=_vmap)
MULTISCALE_ROI_ALIGN_BACKWARD = Op("multiscale_roi_align_backward", fake=_fake_backward, vmap=_vmap_backward)


# An autograd.Function differentiates in tensors that it is given one by one: both take their list of maps last.
class _Pool(torch.autograd.Function):
    """The mean is linear in the maps, so that this and its gradient are each other's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        backend: str | None, boxes: Tensor, size: tuple[int, int], options: tuple[Any, ...], *inputs: Tensor
    ) -> Tensor:
        return MULTISCALE_ROI_ALIGN(list(inputs), boxes, *size, *options, backend=backend)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.backend, boxes, _, ctx.options, *maps = inputs
        ctx.save_for_backward(boxes)
        ctx.sizes = maps[0].shape[0], [m.shape[2] for m in maps], [m.shape[3] for m in maps]
        ctx.channels_last = is_channels_last(maps[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (boxes,) = ctx.saved_tensors
        options = *ctx.options, ctx.channels_last, torch.are_deterministic_algorithms_enabled()
        grads = _Spread.apply(ctx.backend, boxes, ctx.sizes, options, grad)  # type: ignore[no-untyped-call]
        return None, None, None, None, *grads


class _Spread(torch.autograd.Function):
    """The gradient of _Pool."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        backend: str | None,
        boxes: Tensor,
        sizes: tuple[int, list[int], list[int]],
        options: tuple[Any, ...],
        grad: Tensor,
    ) -> tuple[Tensor, ...]:
        return tuple(MULTISCALE_ROI_ALIGN_BACKWARD(grad, boxes, *sizes, *options, backend=backend))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.backend, boxes, _, options, grad = inputs
        ctx.save_for_backward(boxes)
        *ctx.options, _, _ = options
        ctx.size = tuple(grad.shape[2:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (boxes,) = ctx.saved_tensors
        of_grad = _Pool.apply(ctx.backend, boxes, ctx.size, ctx.options, *_laid_out_alike(grads))  # type: ignore[no-untyped-call]
        return None, None, None, None, of_grad


@MULTISCALE_ROI_ALIGN.public
def multiscale_roi_align(
    inputs: Sequence[Tensor],
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = True,
    *,
    canonical_size: int = 224,
    canonical_level: int = 4,
    min_level: int = 2,
    backend: str | None = None,
) -> Tensor:
    """RoIAlign of each region from the map of its level in a feature pyramid, all levels in one call.

    A region of area A is pooled, as by `roi_align`, from level k = floor(canonical_level + log2(sqrt(A) /
    canonical_size)), or the nearest that there is. That is decided without logarithms, in float32: k is the largest
    with A >= canonical_size^2 4^(k - canonical_level).

    Args:
        inputs: (B, C, H_l, W_l) floating, finest first, of one dtype; levels min_level, min_level + 1, and so on. The
            memory format of the first is the result's; maps in the other are copied.
        boxes: (K, 5) rows (index of the image, x1, y1, x2, y2), or for each image a tensor (K_i, 4); floating or
            integer of any dtype.
        output_size: Bins, as (height, width) or one number for both.
        spatial_scales: Pixels of each map for one unit of the boxes' coordinates: 1/4 for a stride of 4.
        sampling_ratio: As in `roi_align`.
        aligned: As in `roi_align`.
        canonical_size: Side of a square region that belongs to canonical_level.
        canonical_level: The level of such a region.
        min_level: The level of the first map.
        backend: "native", or None for the first that can run.

    Returns:
        (K, C, height, width) in the dtype of the maps. Differentiable twice in the maps; the gradients are the same
        from run to run, on the CPU for any number of threads, on a GPU where torch.use_deterministic_algorithms() asks
        for that.

    Raises:
        ValueError: a shape, a number of maps or scales, the output_size or, on the CPU, the index of an image does not
            fit.
        TypeError: not tensors of numbers on one device, or maps of several dtypes.
        NotImplementedError: no backend runs here; the message says why.

    Source: Lin et al., Feature Pyramid Networks, arXiv:1612.03144, equation 1.

    >>> fine, coarse = torch.full((1, 1, 64, 64), 2.0), torch.full((1, 1, 32, 32), 3.0)
    >>> boxes = [torch.tensor([[0.0, 0, 100, 100], [0, 0, 200, 200]])]
    >>> multiscale_roi_align([fine, coarse], boxes, 1, [1 / 4, 1 / 8]).flatten()
    tensor([2., 3.])
    """
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(f"inputs: expected a list of tensors, got {type(inputs).__name__}")
    if not inputs:
        raise ValueError("inputs: expected one or more tensors, got none")
    for level, of_level in enumerate(inputs):
        name = f"inputs[{level}]"
        check_map(name, of_level)
        _check.dtype(name, of_level, (inputs[0].dtype,), f"{inputs[0].dtype} as inputs[0]")
        _check.same_device(name, of_level, "inputs[0]", inputs[0])
        for dim in (0, 1):
            _check.same_size(name, of_level, "inputs[0]", inputs[0], dim)
    rois = rois_of(boxes, inputs[0], "inputs[0]")
    size = _check.pair("output_size", output_size, 1)
    if not hasattr(spatial_scales, "__len__"):
        raise TypeError(f"spatial_scales: expected a number for each map, got {type(spatial_scales).__name__}")
    if len(spatial_scales) != len(inputs):
        raise ValueError(f"spatial_scales: expected as many as inputs, {len(inputs)}, got {len(spatial_scales)}")
    for scale in spatial_scales:
        _check.number("spatial_scales", scale)
    _check.integer("sampling_ratio", sampling_ratio)
    _check.count("canonical_size", canonical_size)
    _check.integer("canonical_level", canonical_level)
    _check.integer("min_level", min_level)
    scales = [float(scale) for scale in spatial_scales]
    options = (scales, sampling_ratio, bool(aligned), canonical_size, canonical_level, min_level)
    maps = _laid_out_alike(inputs)
    rois = rois.detach()  # they have no gradient
    if needs_autograd(tuple(maps)):
        return _Pool.apply(backend, rois, size, options, *maps)  # type: ignore[no-untyped-call, no-any-return]
    return MULTISCALE_ROI_ALIGN(maps, rois, *size, *options, backend=backend)  # type: ignore[no-any-return]


def _laid_out_alike(maps: Sequence[Tensor]) -> list[Tensor]:
    """The maps, those in another memory format than the first copied into that."""
    if not is_channels_last(maps[0]):
        return [maps[0], *(m.contiguous() for m in maps[1:])]
    return [maps[0], *(m.contiguous(memory_format=torch.channels_last) for m in maps[1:])]
