"""Modules over room `conv`: the blocks of MobileNets, whose norms fold into their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visionops import _check
from visionops._codes import ACTIVATIONS
from visionops.conv import conv2d, depthwise_separable_conv2d
from visionops.nn.conv2d import Conv2d
from visionops.nn.norm import BatchNorm2d

# Bytes of a block's middle that the cores' shared cache holds beside what they read and write.
_MIDDLE_IN_CACHE = 6 << 20


class _Seen:
    """What modules hold, and how often it was written when it was seen; a copy has what is copied with it."""

    def __init__(self, modules: dict[str, nn.Module | None], is_stale: bool = False) -> None:
        """`is_stale` for what had changed before."""
        self._modules, self._is_stale = modules, is_stale
        holders: list[dict[str, Any]] = [modules]
        for module in modules.values():
            for part in () if module is None else module.modules():
                holders += part._modules, part._parameters, part._buffers
        self._values = [(held, name, value, _version(value)) for held in holders for name, value in held.items()]

    def is_stale(self) -> bool:
        """Whether any of it was replaced or written since."""
        for held, name, value, version in self._values:
            if (version is not None and value._version != version) or held.get(name) is not value:
                return True
        return self._is_stale

    def __reduce__(self) -> Any:
        return _Seen, (self._modules, self.is_stale())


def _version(value: Any) -> int | None:
    """How often a tensor was written; None for what does not count that."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else None


class _Folding(nn.Module):
    """Convolutions and norms that in eval mode are one operation.

    Its norms are folded into the weights on every call; after `prepack()` they are folded for good, until `unpack()`.
    What is packed does not become stale: a packed module refuses to train and to load a state_dict, and once its
    parameters or running estimates are written or replaced it raises. What is written through `.data` is not seen, nor
    what is written to tensors made in inference mode. A traced graph folds on every call.
    """

    packed: tuple[str, ...] = ()
    _seen = _Seen({})

    def prepack(self) -> None:
        """Fold the norms into copies of the weights, which the module computes with from now on.

        Raises:
            RuntimeError: the module is in training mode.
        """
        if self.training:
            raise RuntimeError("prepack: expected a module in eval mode, got one in training mode")
        self.unpack()
        with torch.no_grad():
            folded = self._folded()
        for name, value in folded.items():
            # Buffers move with the module from device to device; the state_dict has what they were made from.
            self.register_buffer(f"packed_{name}", value.clone(), persistent=False)
        self.packed = tuple(folded)
        self._seen = _Seen(self._modules)

    def unpack(self) -> None:
        """Forget what `prepack` made."""
        for name in self.packed:
            delattr(self, f"packed_{name}")
        self.packed, self._seen = (), _Seen({})

    def train(self, mode: bool = True) -> Any:
        """As torch's; a packed module has to be unpacked before it trains."""
        if mode and self.packed:
            raise RuntimeError("train: expected a module that is not packed, call unpack() first")
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        # The packed move along.
        is_stale = self._seen.is_stale()
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        if self.packed:
            self._seen = _Seen(self._modules, is_stale)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        if self.packed:
            raise RuntimeError("load_state_dict: expected a module that is not packed, call unpack() first")
        super()._load_from_state_dict(*args, **kwargs)

    def _folded(self) -> dict[str, Tensor]:
        """The tensors of eval mode."""
        raise NotImplementedError

    def _of_eval_mode(self) -> dict[str, Tensor]:
        if self.packed and not torch.compiler.is_compiling():
            if self._seen.is_stale():
                raise RuntimeError("weights: changed after prepack(), call it again, or unpack()")
            held: dict[str, Any] = self._buffers  # asked itself: as attributes they take longer than a small kernel
            return {name: held[f"packed_{name}"] for name in self.packed}
        return self._folded()


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a norm does in eval mode."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class PointwiseConv2d(_Folding):
    """A pointwise convolution, batch norm and activation; in eval mode one operation.

    Args:
        in_channels: C.
        out_channels: O.
        activation: A name of `visionops.conv2d` or None.
        eps: Of the norm.
        momentum: Of the norm.

    >>> PointwiseConv2d(4, 8).eval()(torch.ones(1, 4, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        activation: str | None = "relu",
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = BatchNorm2d(out_channels, eps, momentum, activation=activation)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        if self.training:
            return self.norm(self.conv(input))  # type: ignore[no-any-return]
        folded = self._of_eval_mode()
        return conv2d(input, folded["weight"], folded["bias"], activation=self.activation)

    def _folded(self) -> dict[str, Tensor]:
        scale, shift = _scale_and_shift(self.norm)
        return {"weight": self.conv.weight * scale[:, None, None, None], "bias": shift}


class DepthwiseSeparableConv2d(_Folding):
    """A depthwise and a pointwise convolution, each with batch norm and activation; in eval mode one operation.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: Of the depthwise convolution, odd: (height, width), or one integer for both, as all that follow.
        stride: Of the depthwise convolution.
        dilation: Of the depthwise convolution, whose padding keeps the image's size at stride 1.
        depthwise_activation: A name of `visionops.conv2d` or None.
        pointwise_activation: A name or None.
        eps: Of both norms.
        momentum: Of both norms.

    >>> DepthwiseSeparableConv2d(4, 8, stride=2).eval()(torch.ones(1, 4, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        *,
        depthwise_activation: str | None = "relu",
        pointwise_activation: str | None = "relu",
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        kernel, gaps = _check.pair("kernel_size", kernel_size, 1), _check.pair("dilation", dilation, 1)
        if any(k % 2 == 0 for k in kernel):
            raise ValueError(f"kernel_size: expected odd sizes, got {kernel_size!r}")
        _check.one_of("depthwise_activation", depthwise_activation, ACTIVATIONS)
        _check.one_of("pointwise_activation", pointwise_activation, ACTIVATIONS)
        padding = tuple(g * (k // 2) for k, g in zip(kernel, gaps, strict=True))
        self.depthwise = Conv2d(
            in_channels, in_channels, tuple(kernel), stride, padding, tuple(gaps), in_channels, bias=False
        )
        self.depthwise_norm = BatchNorm2d(in_channels, eps, momentum, activation=depthwise_activation)
        self.depthwise_activation = depthwise_activation
        self.pointwise = Conv2d(in_channels, out_channels, 1, bias=False)
        self.pointwise_norm = BatchNorm2d(out_channels, eps, momentum, activation=pointwise_activation)
        self.pointwise_activation = pointwise_activation

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H', W')."""
        if self.training:
            middle = self.depthwise_norm(self.depthwise(input))
            return self.pointwise_norm(self.pointwise(middle))  # type: ignore[no-any-return]
        folded = self._of_eval_mode()
        return depthwise_separable_conv2d(
            input,
            folded["depthwise_weight"],
            folded["pointwise_weight"],
            stride=self.depthwise.stride,  # type: ignore[arg-type]
            padding=self.depthwise.padding,  # type: ignore[arg-type]
            dilation=self.depthwise.dilation,  # type: ignore[arg-type]
            depthwise_norm=(None, folded["depthwise_shift"]),
            depthwise_activation=self.depthwise_activation,
            pointwise_norm=(None, folded["pointwise_shift"]),
            pointwise_activation=self.pointwise_activation,
        )

    def _folded(self) -> dict[str, Tensor]:
        first, second = _scale_and_shift(self.depthwise_norm), _scale_and_shift(self.pointwise_norm)
        return {
            "depthwise_weight": self.depthwise.weight * first[0][:, None, None, None],
            "depthwise_shift": first[1],
            "pointwise_weight": self.pointwise.weight * second[0][:, None, None, None],
            "pointwise_shift": second[1],
        }


class InvertedResidual(nn.Module):
    """The block of MobileNetV2: a pointwise convolution to more channels, then a depthwise-separable one to few.

    Where the sizes agree, the input is added to the result.

    Args:
        in_channels: C.
        out_channels: O.
        stride: Of the depthwise convolution.
        expand_ratio: How many times C the middle has; with 1 the first convolution is left out.
        kernel_size: Of the depthwise convolution, odd.
        activation: Of the first two convolutions; the last has none.

    Source: Sandler et al., MobileNetV2, arXiv:1801.04381.

    >>> InvertedResidual(4, 4).eval()(torch.ones(1, 4, 5, 5)).shape
    torch.Size([1, 4, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int | tuple[int, int] = 1,
        expand_ratio: int = 6,
        kernel_size: int | tuple[int, int] = 3,
        *,
        activation: str | None = "relu6",
    ) -> None:
        super().__init__()
        middle = in_channels * expand_ratio
        self.expand = PointwiseConv2d(in_channels, middle, activation=activation) if expand_ratio != 1 else None
        self.separable = DepthwiseSeparableConv2d(
            middle, out_channels, kernel_size, stride, depthwise_activation=activation, pointwise_activation=None
        )
        self.adds = in_channels == out_channels and _check.pair("stride", stride, 1) == [1, 1]

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H', W')."""
        images = self._images_at_once(input)
        out = self._block(input) if images is None else torch.cat([self._block(x) for x in torch.split(input, images)])
        return input + out if self.adds else out

    def _block(self, input: Tensor) -> Tensor:
        out: Tensor = self.separable(input if self.expand is None else self.expand(input))
        return out

    def _images_at_once(self, input: Tensor) -> int | None:
        """How many images keep the middle in the cache and off fresh memory; None if all do, or a gradient needs it."""
        if self.expand is None or self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        if not input.is_cpu or input.ndim != 4 or input.numel() == 0:
            return None
        middle = input[0, 0].nbytes * self.expand.conv.out_channels
        return None if middle * len(input) <= _MIDDLE_IN_CACHE else max(_MIDDLE_IN_CACHE // middle, 1)

    def prepack(self) -> None:
        """Prepack both parts."""
        for part in (self.expand, self.separable):
            if part is not None:
                part.prepack()

    def unpack(self) -> None:
        """Unpack both parts."""
        for part in (self.expand, self.separable):
            if part is not None:
                part.unpack()
