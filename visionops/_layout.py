"""The one rule by which images are laid out: glue and shape rules agree on it."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(image: Tensor) -> bool:
    """Whether (B, C, H, W) lies in memory as (B, H, W, C): dense so, and not dense as (B, C, H, W) as well."""
    if image.is_contiguous():
        return False
    # torch does not ask this of a tensor inside vmap by is_contiguous(memory_format=...).
    expected = 1
    for dim in (1, 3, 2, 0):
        if image.shape[dim] != 1:
            if image.stride(dim) != expected:
                return False
            expected *= image.shape[dim]
    return True


def empty_image(
    like: Tensor, channels: int, height: int, width: int, *, batch: int | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """For shape rules: an empty (B, C, H, W) on the device of an image and laid out as it is."""
    return torch.empty(
        (like.shape[0] if batch is None else batch, channels, height, width),
        dtype=dtype or like.dtype,
        device=like.device,
        memory_format=torch.channels_last if is_channels_last(like) else torch.contiguous_format,
    )
