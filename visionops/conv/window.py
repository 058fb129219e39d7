"""The geometry of sliding windows: arguments made plain, and the sizes that follow from them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops._op import FLOATING


def sides(name: str, value: Any) -> list[int]:
    """(top, bottom, left, right) of a padding that is one integer or two."""
    height, width = _check.pair(name, value, 0)
    return [height, height, width, width]


def padding_of(value: Any, kernel: list[int], stride: list[int], dilation: list[int]) -> list[int]:
    """(top, bottom, left, right) of a padding that may be "valid" or "same" too; of an odd sum the larger half last."""
    if type(value) is int and 0 <= value < _check.LIMIT:  # mostly
        return [value, value, value, value]
    if not isinstance(value, str):
        return sides("padding", value)
    if value == "valid":
        return [0, 0, 0, 0]
    if value == "same":
        if stride != [1, 1]:
            raise ValueError(f"padding: 'same' expects stride 1, got {tuple(stride)}")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [half for t in total for half in (t // 2, t - t // 2)]
    raise ValueError(f"padding: expected integers, 'same' or 'valid', got {value!r}")


def positions(
    size: tuple[Any, Any], kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]
) -> tuple[int, int]:
    """How many positions a window has in height and width: floor((H + P - D (k - 1) - 1) / S) + 1.

    Raises:
        ValueError: it does not fit into the padded image once.
    """
    out = []
    for side in range(2):
        reach = dilation[side] * (kernel[side] - 1) + 1
        padded = size[side] + padding[2 * side] + padding[2 * side + 1]
        if padded < reach:
            raise ValueError(
                f"kernel_size: expected one that fits into the padded image, "
                f"{size[0] + padding[0] + padding[1]}x{size[1] + padding[2] + padding[3]}, got {tuple(kernel)}"
                + (f" with dilation {tuple(dilation)}" if dilation != [1, 1] else "")
            )
        out.append((padded - reach) // stride[side] + 1)
    return out[0], out[1]


def image(input: Any) -> Tensor:
    """The input as (B, C, H, W); raise unless it is a floating tensor of that shape or one image (C, H, W)."""
    # Between large convolutions code is cold: a function is called only to say what is wrong.
    if not isinstance(input, Tensor):
        _check.is_a("input", input, Tensor)
    ndim = input.ndim
    if ndim not in (3, 4):
        raise ValueError(f"input: expected shape (B, C, H, W) or (C, H, W), got {_check.describe(input)}")
    if input.dtype not in FLOATING:
        _check.dtype("input", input, FLOATING, "floating")
    return input if ndim == 4 else input[None]  # type: ignore[no-any-return]
