"""Convolution as a module, whose filters can be packed for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visionops import _check
from visionops._codes import ACTIVATIONS
from visionops.conv import conv2d
from visionops.conv.packed import PackedConv2d


class Conv2d(nn.Conv2d):
    """`visionops.conv2d` as a module, with an activation; it takes the arguments and the state_dict of torch's.

    Args:
        args: As torch.nn.Conv2d; padding_mode is "zeros".
        activation: What follows, a name of `visionops.conv2d` or None.
        kwargs: As torch.nn.Conv2d.

    >>> Conv2d(3, 8, 3, padding="same", activation="relu")(torch.ones(1, 3, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    activation: str | None = None
    packed: PackedConv2d | None = None

    def __init__(self, *args: Any, activation: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _check.one_of("padding_mode", self.padding_mode, ("zeros",))
        _check.one_of("activation", activation, ACTIVATIONS)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) or (C, H, W) to the result of the convolution.

        Raises:
            RuntimeError: the weight is not what `prepack` saw.
        """
        return self.activated(input, self.activation)

    def activated(self, input: Tensor, activation: str | None) -> Tensor:
        """As forward, with another activation."""
        # A traced graph has the weight: what is packed is for one machine's instructions.
        if self.packed is not None and not torch.compiler.is_compiling():
            out = self.packed(input, self.weight, self.bias, activation)
            if out is not None:
                return out
        return conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.dilation,  # type: ignore[arg-type]
            self.groups,
            activation=activation,
        )

    def prepack(self) -> None:
        """Check the arguments and transform 3 x 3 filters once, for inference in float32 on the CPU.

        The weight stays, for the state_dict and for gradients, and is not to change: once it does, the module raises
        until `prepack` or `unpack` is called. What is written through `.data` is not seen, nor what is written to a
        weight made in inference mode. The other arguments are those of the call of `prepack`, whatever is assigned to
        the module after it. Infinities in the input may become NaN.

        Raises:
            RuntimeError: the module is in training mode.
        """
        if self.training:
            raise RuntimeError("prepack: expected a module in eval mode, got one in training mode")
        self.packed = PackedConv2d(self.weight, self.stride, self.padding, self.dilation, self.groups)

    def unpack(self) -> None:
        """Forget what `prepack` made."""
        self.packed = None

    def train(self, mode: bool = True) -> Any:
        """As torch's; a packed module has to be unpacked before it trains."""
        if mode and self.packed is not None:
            raise RuntimeError("train: expected a module that is not packed, call unpack() first")
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        # To another dtype or device parameters go without a write that would be seen.
        packed = None if self.packed is None or self.packed.is_stale(self.weight) else self.packed
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        if packed is not None:
            self.packed = packed.of(self.weight)
        return self

    def extra_repr(self) -> str:
        """As torch's, and the activation."""
        described: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return described + (f", activation={self.activation!r}" if self.activation else "")
