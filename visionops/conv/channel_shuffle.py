"""Channel shuffle: groups of channels dealt out in turn."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visionops import _check
from visionops._layout import empty_image
from visionops._op import Gradient, Op, vmap_batches
from visionops.conv.window import image


def _fake(input: Tensor, groups: int) -> Tensor:
    return empty_image(input, *input.shape[1:])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.groups = inputs[0].shape[1] // inputs[1]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # As many groups as a group had channels deal them back.
    return CHANNEL_SHUFFLE(grad, ctx.groups, backend=ctx.backend), None


CHANNEL_SHUFFLE = Op("channel_shuffle", fake=_fake, vmap=vmap_batches, gradient=Gradient(_save, _backward))


@CHANNEL_SHUFFLE.public
def channel_shuffle(input: Tensor, groups: int, *, backend: str | None = None) -> Tensor:
    """Deal the channels of several groups out in turn, so that the next grouped convolution mixes them.

    out[b, i groups + g] = input[b, g C / groups + i].

    Args:
        input: (B, C, H, W) or (C, H, W) floating, of either layout.
        groups: A divisor of C.
        backend: "native", or None for the first that can run.

    Returns:
        The input's shape, dtype and layout. Differentiable any number of times.

    Raises:
        ValueError: a shape does not fit, or groups do not divide the channels.
        TypeError: not a floating tensor, or groups not an integer.
        NotImplementedError: no backend runs here; the message says why.

    Source: Zhang et al., ShuffleNet, arXiv:1707.01083, section 3.1.

    >>> channel_shuffle(torch.arange(4.0).reshape(1, 4, 1, 1), 2).flatten()
    tensor([0., 2., 1., 3.])
    """
    images = image(input)
    _check.count("groups", groups)
    if groups < 1 or images.shape[1] % groups:
        raise ValueError(f"groups: expected a divisor of {images.shape[1]} channels, got {groups}")
    out: Tensor = CHANNEL_SHUFFLE(images, groups, backend=backend)
    return out if input.ndim == 4 else out[0]
