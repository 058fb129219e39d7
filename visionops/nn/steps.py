"""Steps of a rewritten forward: a norm or a convolution with what follows it, in one pass until something changes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from visionops._op import needs_autograd
from visionops.nn.conv2d import Conv2d
from visionops.nn.norm import BatchNorm2d

FUNCTIONS: dict[str | None, Any] = {
    None: lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}
_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.GELU: "gelu",
}


def takes_in(module: nn.Module) -> bool:
    """Whether it has a pass of its own that could do what follows."""
    return type(module) in (BatchNorm2d, Conv2d) and module.activation is None


def is_patched(module: nn.Module) -> bool:
    """Whether this one object computes by other functions than its class."""
    return "forward" in vars(module) or "_conv_forward" in vars(module)


def with_activation(module: BatchNorm2d | Conv2d, input: Tensor, activation: nn.Module | str) -> Tensor:
    """What a norm or a convolution and the activation after it do, in one pass unless one has changed since."""
    is_known, name = _known(activation)
    if is_known and takes_in(module) and not is_watched(module):
        return module.activated(input, name)
    return _activated(module(input), activation)


def with_residual(
    norm: BatchNorm2d,
    input: Tensor,
    other: Any,
    activation: nn.Module | str | None,
    *,
    augmented: bool = False,
    in_place: bool = False,
) -> Tensor:
    """What a norm, an addition and an activation do: in one pass unless the addition broadcasts the input.

    `augmented` says that it was a += b; `in_place`, that the input may be overwritten.
    """
    is_alike = isinstance(other, Tensor) and other.shape == input.shape and other.dtype == input.dtype
    is_known, name = _known(activation)
    if is_alike and is_known and takes_in(norm) and not is_watched(norm):
        return norm.normalised(input, other, name, in_place=in_place)
    value = norm(input)
    return _activated(value.add_(other) if augmented else value + other, activation)


def with_residual_in_place(
    norm: BatchNorm2d,
    input: Tensor,
    other: Any,
    convolution: nn.Module,
    activation: nn.Module | str | None,
    *,
    augmented: bool = False,
) -> Tensor:
    """The same over what the convolution before it has made, where no gradient is asked for and nobody sees it."""
    in_place = (
        type(convolution) is Conv2d
        and not is_watched(convolution)
        and input.device.type == "cpu"
        and takes_in(norm)
        and not needs_autograd((input, norm.weight, norm.bias, other))
    )
    return with_residual(norm, input, other, activation, augmented=augmented, in_place=in_place)


def _known(activation: nn.Module | str | None) -> tuple[bool, str | None]:
    """Whether norms and convolutions know an activation, and by what name."""
    if not isinstance(activation, nn.Module):
        return True, activation
    name = name_of(activation)
    return name is not None, name


def _activated(value: Tensor, activation: nn.Module | str | None) -> Tensor:
    function = activation if isinstance(activation, nn.Module) else FUNCTIONS[activation]
    return function(value)  # type: ignore[no-any-return]


def name_of(module: nn.Module) -> str | None:
    """The name of the activation that a module is, unless somebody watches it."""
    if (
        is_watched(module)
        or (isinstance(module, nn.LeakyReLU) and module.negative_slope != 0.01)
        or (isinstance(module, nn.GELU) and module.approximate != "none")
    ):
        return None
    return _MODULES.get(type(module))


def is_watched(module: nn.Module) -> bool:
    """Whether others see its calls or make them: hooks, of all modules too, or a forward of its own."""
    own = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(own) or is_patched(module) or bool(_has_any_global_hook())  # type: ignore[no-untyped-call]
