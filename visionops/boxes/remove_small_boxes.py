"""Indices of the boxes that are large enough."""

from __future__ import annotations

from torch import Tensor

from visionops import _check
from visionops._op import NUMBERS, Op, indices_of_unknown_number


def _fake(boxes: Tensor, min_size: float) -> Tensor:
    return indices_of_unknown_number(boxes)


REMOVE_SMALL_BOXES = Op("remove_small_boxes", fake=_fake)


@REMOVE_SMALL_BOXES.public
def remove_small_boxes(boxes: Tensor, min_size: float, *, backend: str | None = None) -> Tensor:
    """Indices of the boxes whose sides x2 - x1 and y2 - y1 are both at least `min_size`.

    Args:
        boxes: (N, 4) xyxy in pixels, floating or integer.
        min_size: Least side in pixels.
        backend: "native", or None for the first that can run.

    Returns:
        (K,) int64, ascending. A box with a NaN side is small.

    Raises:
        ValueError: the shape does not fit, or min_size is NaN.
        TypeError: not a tensor of numbers, or min_size is no number.
        NotImplementedError: no backend runs here; the message says why.

    >>> remove_small_boxes(torch.tensor([[0.0, 0, 9, 1], [0, 0, 5, 5]]), 2)
    tensor([1])
    """
    _check.is_a("boxes", boxes, Tensor)
    _check.columns("boxes", boxes, 4, "(N, 4)", ndim=2)
    _check.dtype("boxes", boxes, NUMBERS, "floating or integer")
    _check.number("min_size", min_size)
    return REMOVE_SMALL_BOXES(boxes, float(min_size), backend=backend)  # type: ignore[no-any-return]
