"""Transposed convolution: the adjoint of convolution in its image."""

from __future__ import annotations

import torch
from torch import Tensor

from visionops import _check
from visionops.conv.convolution import CONV_TRANSPOSE2D, autocast, check_weight, preferred
from visionops.conv.window import image, sides


@CONV_TRANSPOSE2D.public
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    *,
    backend: str | None = None,
) -> Tensor:
    """Transposed convolution: each pixel adds its multiple of the filters to the window that a convolution reads.

    <conv_transpose2d(a, w), b> = <a, conv2d(b, w)> for the same stride, padding, dilation and groups. Where the
    stride leaves several sizes that a convolution maps to the input's, output_padding chooses a larger one.

    Args:
        input: (B, C, H, W) or (C, H, W) floating, of either layout.
        weight: (C, O / groups, kh, kw) in the input's dtype.
        bias: (O,) or None.
        stride: Pixels between neighbouring windows of the result, S: (height, width), or one integer for both, as all
            that follow.
        padding: Pixels on each side of the result that are left out, P.
        output_padding: Rows and columns added at the bottom and on the right, fewer than the stride or the dilation.
        groups: Parts of the channels that do not mix.
        dilation: Pixels between neighbouring taps, D.
        backend: "native", "triton" or "aten", torch's own, or None for the faster one here.

    Returns:
        (B, O, H', W') or (O, H', W') in the input's dtype and layout, H' = (H - 1) S - 2P + D (kh - 1) +
        output_padding + 1; 16-bit types are summed in float32. Differentiable any number of times in input, weight
        and bias. Under torch.autocast as `conv2d`.

    Raises:
        ValueError: a shape does not fit, or nothing would be left of the result.
        TypeError: not floating tensors of one dtype on one device.
        NotImplementedError: no backend runs here; the message says why.

    Source: Dumoulin and Visin, A guide to convolution arithmetic, arXiv:1603.07285, section 4.

    >>> conv_transpose2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    """
    images = image(input)
    if torch._C._is_any_autocast_enabled():
        images, weight, bias = autocast(images, weight, bias)
    check_weight(images, weight, bias, groups, transposed=True)
    pixels, taps = images.shape[2:], weight.shape[2:]
    if 0 in pixels or 0 in taps:
        name, tensor = ("input", images) if 0 in pixels else ("weight", weight)
        raise ValueError(f"{name}: expected at least one pixel, got {_check.describe(tensor)}")
    steps, gaps = _check.pair("stride", stride, 1), _check.pair("dilation", dilation, 1)
    around, extra = sides("padding", padding), _check.pair("output_padding", output_padding, 0)
    size = []
    for side in range(2):
        added = extra[side]
        if added >= steps[side] and added >= gaps[side]:
            raise ValueError(f"output_padding: expected less than the stride or the dilation, got {output_padding!r}")
        reach = gaps[side] * (taps[side] - 1) + 1
        size.append((pixels[side] - 1) * steps[side] + reach + added - 2 * around[2 * side])
        # Rows added at the bottom are rows not cut off there; beyond those, no window reads them.
        around[2 * side + 1] -= added
    if size[0] < 1 or size[1] < 1:
        raise ValueError(f"padding: expected one that leaves a result, got {padding!r}")
    backend = backend or preferred(images, weight, groups)
    out: Tensor = CONV_TRANSPOSE2D(images, weight, bias, size, steps, around, gaps, groups, backend=backend)
    return out if input.ndim == 4 else out[0]
