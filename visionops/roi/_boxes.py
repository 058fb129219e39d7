"""What the operations on regions of interest take alike: the map, the boxes, and the size of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._op import FLOATING, NUMBERS, result_dtype


def check_map(name: str, value: Any) -> None:
    """Raise unless it is a (B, C, H, W) tensor of floats."""
    _check.is_a(name, value, Tensor)
    _check.ndim(name, value, 4, "(B, C, H, W)")
    _check.dtype(name, value, FLOATING, "floating")


def rois_of(boxes: Any, input: Tensor, input_name: str = "input") -> Tensor:
    """Boxes as (K, 5) floating rows (index of the image, x1, y1, x2, y2); raise unless they fit the map."""
    if not isinstance(boxes, (tuple, list)):
        _check.is_a("boxes", boxes, Tensor)
        _check.columns("boxes", boxes, 5, "(K, 5) or a list of (K, 4)", ndim=2)
        _check.dtype("boxes", boxes, NUMBERS, "floating or integer")
        _check.same_device("boxes", boxes, input_name, input)
        return boxes.to(result_dtype(boxes.dtype))  # type: ignore[no-any-return]
    if len(boxes) != input.shape[0]:
        raise ValueError(f"boxes: expected one tensor per image, B={input.shape[0]}, got {len(boxes)}")
    rows = []
    for image, of_image in enumerate(boxes):
        name = f"boxes[{image}]"
        _check.is_a(name, of_image, Tensor)
        _check.columns(name, of_image, 4, "(K, 4)", ndim=2)
        _check.dtype(name, of_image, NUMBERS, "floating or integer")
        _check.same_device(name, of_image, input_name, input)
        # A 16-bit float does not hold every index of an image.
        wide = torch.promote_types(result_dtype(of_image.dtype), torch.float32)
        rows.append(torch.nn.functional.pad(of_image.to(wide), (1, 0), value=float(image)))
    return torch.cat(rows) if rows else input.new_empty((0, 5), dtype=torch.float32)


def fold_batch(
    size: int,
    maps: Sequence[Tensor],
    dims: Sequence[int | None],
    boxes: Tensor,
    box_dim: int | None,
    images: int | None = None,
) -> tuple[list[Tensor], Tensor, Callable[[Tensor], tuple[Tensor, int]]]:
    """For batching rules: a batch of calls as one call.

    Channels do not see each other: where the boxes have no batch, that of the maps becomes channels. Else it becomes
    images, whose indices go on from one call to the next.

    Args:
        size: How many calls.
        maps: (B, C, ...), or (K, C, ...) for results and their gradients, each with its batch of calls or without.
        dims: Where each has its batch of calls, or None.
        boxes: (K, 5).
        box_dim: Where these have it, or None.
        images: B of a gradient of maps; None for results, which have as many rows as there are boxes.

    Returns:
        The maps and boxes of the one call, and what gives its result the batch of calls back, with its dimension.
    """
    leading = 1 if box_dim is None else 0
    # By the sizes of one call, not by dividing those of all: there may be none.
    batch, channels, *_ = [n for d, n in enumerate(maps[0].shape) if d != dims[0]]
    of_call = channels
    folded = []
    for tensor, dim in zip(maps, dims, strict=True):
        moved = (
            tensor.unsqueeze(leading).expand(*tensor.shape[:leading], size, *tensor.shape[leading:])
            if dim is None
            else tensor.movedim(dim, leading)
        )
        folded.append(moved.flatten(leading, leading + 1))
    if box_dim is not None:
        boxes = boxes.movedim(box_dim, 0)
        batch, of_call = (batch, boxes.shape[1]) if images is None else (images, images)
        boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
        image, corners = boxes[..., :1], boxes[..., 1:]
        first = batch * torch.arange(size, device=boxes.device, dtype=boxes.dtype).view(size, 1, 1)
        # An index that is wrong in its own call stays wrong, and one that is not finite makes no number.
        image = torch.where((image < 0) | (image >= batch), image * 0 - 1, image + first)
        boxes = torch.cat([image, corners], dim=-1).flatten(0, 1)

    def restore(result: Tensor) -> tuple[Tensor, int]:
        return result.reshape(*result.shape[:leading], size, of_call, *result.shape[leading + 1 :]), leading

    return folded, boxes, restore
