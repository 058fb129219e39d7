"""IoU of every pair of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from visionops import _check
from visionops._backend import NATIVE, TRITON
from visionops._op import NUMBERS, Op, vmap_one_by_one


def _fake(masks1: Tensor, masks2: Tensor) -> Tensor:
    return masks1.new_empty((masks1.shape[0], masks2.shape[0]), dtype=torch.float32)


MASK_IOU = Op("mask_iou", fake=_fake, vmap=vmap_one_by_one, backends=(NATIVE, TRITON))


@MASK_IOU.public
def mask_iou(masks1: Tensor, masks2: Tensor, *, backend: str | None = None) -> Tensor:
    """Pixels in both masks over pixels in either, of every pair; a mask is where its pixels are not zero.

    The masks are packed to a bit a pixel. The quotient of the two counts is rounded once; it is 0 where both are empty.

    Args:
        masks1: (N, H, W) bool, floating or integer.
        masks2: (M, H, W) bool, floating or integer.
        backend: "native", "triton", or None for the first that can run.

    Returns:
        (N, M) float32, without a gradient.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: not tensors of bool or numbers on one device.
        NotImplementedError: no backend runs here; the message says why.

    >>> mask_iou(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 1, 1]], [[1, 1, 1]]]))
    tensor([[0.3333, 0.6667]])
    """
    for name, masks, letters in (("masks1", masks1, "(N, H, W)"), ("masks2", masks2, "(M, H, W)")):
        _check.is_a(name, masks, Tensor)
        _check.ndim(name, masks, 3, letters)
        _check.dtype(name, masks, NUMBERS | {torch.bool}, "bool, floating or integer")
    _check.same_image_size("masks2", masks2, "masks1", masks1)
    _check.same_device("masks2", masks2, "masks1", masks1)
    # Which pixels are set has no gradient in their values, even if the masks ask for one.
    return MASK_IOU(masks1.detach(), masks2.detach(), backend=backend)  # type: ignore[no-any-return]
