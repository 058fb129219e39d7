"""The smallest box around each mask."""

from __future__ import annotations

import torch
from torch import Tensor

from visionops import _check
from visionops._op import NUMBERS, Op, vmap_batches


def _fake(masks: Tensor) -> Tensor:
    return masks.new_empty((masks.shape[0], 4), dtype=torch.float32)


MASKS_TO_BOXES = Op("masks_to_boxes", fake=_fake, vmap=vmap_batches)


@MASKS_TO_BOXES.public
def masks_to_boxes(masks: Tensor, *, backend: str | None = None) -> Tensor:
    """The smallest box around the pixels of each mask that are not zero.

    Args:
        masks: (N, H, W) bool, floating or integer.
        backend: "native", or None for the first that can run.

    Returns:
        (N, 4) float32 (x_min, y_min, x_max, y_max), indices of pixels inside; four zeros for an empty mask.

    Raises:
        ValueError: the shape does not fit.
        TypeError: not a tensor of bool or numbers.
        NotImplementedError: no backend runs here; the message says why.

    >>> masks_to_boxes(torch.tensor([[[0, 0, 0], [0, 1, 1]]]))
    tensor([[1., 1., 2., 1.]])
    """
    _check.is_a("masks", masks, Tensor)
    _check.ndim("masks", masks, 3, "(N, H, W)")
    _check.dtype("masks", masks, NUMBERS | {torch.bool}, "bool, floating or integer")
    # Positions of pixels have no gradient in their values, even if the masks ask for one.
    return MASKS_TO_BOXES(masks.detach(), backend=backend)  # type: ignore[no-any-return]
