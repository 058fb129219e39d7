"""The operations behind the convolutions: one bilinear form, differentiated by each of its three parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._backend import ATEN, NATIVE, TRITON
from visionops._codes import ACTIVATIONS
from visionops._layout import empty_image
from visionops._op import FLOATING, ONCE, Gradient, Op, batch_first, needs_autograd, vmap_batches
from visionops.conv.window import positions

# What torch.autocast casts for a convolution.
_CAST = FLOATING - {torch.float64}
# Their slope shows in their result; of the others the value before is computed again.
_SHOWN = tuple(ACTIVATIONS[name] for name in ("relu", "leaky_relu", "relu6"))


def _fake_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: int,
) -> Tensor:
    size, kernel = (input.shape[2], input.shape[3]), list(weight.shape[2:])
    height, width = positions(size, kernel, list(stride), list(padding), list(dilation))
    return empty_image(input, weight.shape[0], height, width)


def _fake_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    return empty_image(input, *input.shape[1:]), empty_image(weight, *weight.shape[1:])


def _fake_transposed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    output_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    return empty_image(input, weight.shape[1] * groups, *output_size)


def _fake_weight(
    grad: Tensor,
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    return input.new_empty((grad.shape[1], input.shape[1] // groups, *kernel_size))


def _fake_activation(grad: Tensor, value: Tensor, activation: int) -> Tensor:
    return empty_image(value, *value.shape[1:])


def _save_conv2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, bias, *ctx.window, ctx.activation = inputs
    shown = (output,) if ctx.activation in _SHOWN else ()
    ctx.save_for_backward(input, weight, bias, *shown)


def _conv2d_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, weight, bias, *shown = ctx.saved_tensors
    backend = ctx.backend
    if ctx.activation:
        value = shown[0] if shown else CONV2D(input, weight, bias, *ctx.window, 0, backend=backend)
        grad = ACTIVATION_BACKWARD(grad, value, ctx.activation, backend=backend)
    by_input = by_weight = by_bias = None
    if backend == "aten" and all(ctx.needs_input_grad[:2]) and not torch._C._are_functorch_transforms_active():
        by_input, by_weight = CONV2D_BACKWARD(grad, input, weight, *ctx.window, backend=backend)
    else:
        if ctx.needs_input_grad[0]:
            by_input = CONV_TRANSPOSE2D(grad, weight, None, list(input.shape[2:]), *ctx.window, backend=backend)
        if ctx.needs_input_grad[1]:
            by_weight = CONV2D_WEIGHT(grad, input, list(weight.shape[2:]), *ctx.window, backend=backend)
    if ctx.needs_input_grad[2]:
        by_bias = grad.sum((0, 2, 3))
    return by_input, by_weight, by_bias, None, None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, input, weight, *ctx.window = inputs
    ctx.save_for_backward(grad, input, weight)


def _backward_of_backward(ctx: Any, by_input: Tensor | None, by_weight: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, input, weight = ctx.saved_tensors
    # The convolution is linear in its input and in its weight, so each half is that of one of the operations below.
    by_grad = by_image = by_filters = None
    if by_input is not None:
        if ctx.needs_input_grad[0]:
            by_grad = CONV2D(by_input, weight, None, *ctx.window, 0, backend=ctx.backend)
        if ctx.needs_input_grad[2]:
            by_filters = CONV2D_WEIGHT(grad, by_input, list(weight.shape[2:]), *ctx.window, backend=ctx.backend)
    if by_weight is not None:
        if ctx.needs_input_grad[0]:
            more = CONV2D(input, by_weight, None, *ctx.window, 0, backend=ctx.backend)
            by_grad = more if by_grad is None else by_grad + more
        if ctx.needs_input_grad[1]:
            size = list(input.shape[2:])
            by_image = CONV_TRANSPOSE2D(grad, by_weight, None, size, *ctx.window, backend=ctx.backend)
    return by_grad, by_image, by_filters, None, None, None, None


def _save_transposed(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, _, _, *ctx.window = inputs
    ctx.save_for_backward(input, weight)


def _transposed_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, weight = ctx.saved_tensors
    by_input = by_weight = by_bias = None
    if ctx.needs_input_grad[0]:
        by_input = CONV2D(grad, weight, None, *ctx.window, 0, backend=ctx.backend)
    if ctx.needs_input_grad[1]:
        by_weight = CONV2D_WEIGHT(input, grad, list(weight.shape[2:]), *ctx.window, backend=ctx.backend)
    if ctx.needs_input_grad[2]:
        by_bias = grad.sum((0, 2, 3))
    return by_input, by_weight, by_bias, None, None, None, None, None


def _save_weight(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, input, _, *ctx.window = inputs
    ctx.save_for_backward(grad, input)


def _weight_backward(ctx: Any, by_weight: Tensor) -> tuple[Tensor | None, ...]:
    grad, input = ctx.saved_tensors
    by_grad = by_input = None
    if ctx.needs_input_grad[0]:
        by_grad = CONV2D(input, by_weight, None, *ctx.window, 0, backend=ctx.backend)
    if ctx.needs_input_grad[1]:
        size = list(input.shape[2:])
        by_input = CONV_TRANSPOSE2D(grad, by_weight, None, size, *ctx.window, backend=ctx.backend)
    return by_grad, by_input, None, None, None, None, None


def _as_groups(tensor: Tensor | None, dim: int) -> Tensor | None:
    """The mapped dimension, first, as groups of the channels in dimension `dim`."""
    return None if tensor is None else tensor.movedim(0, dim).flatten(dim, dim + 1)


def _vmap_images(raw: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
    # Of conv2d and conv_transpose2d, which have their groups in different places.
    where = 6 if len(args) == 8 and isinstance(args[6], int) else 7
    if in_dims[1] is None and in_dims[2] is None:
        images, *rest = batch_first(info, in_dims, args)
        return raw(images.flatten(0, 1), *args[1:]).unflatten(0, images.shape[:2]), 0
    input, weight, bias, *rest = batch_first(info, in_dims, args)
    rest[where - 3] *= info.batch_size
    out = raw(_as_groups(input, 1), _as_groups(weight, 0), _as_groups(bias, 0), *rest)
    return out.unflatten(1, (info.batch_size, -1)), 1


def _vmap_weight(raw: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
    grad, input, *rest, groups = batch_first(info, in_dims, args)
    out = raw(_as_groups(grad, 1), _as_groups(input, 1), *rest, groups * info.batch_size)
    return out.unflatten(0, (info.batch_size, -1)), 0


BACKENDS = (NATIVE, ATEN, TRITON)
CONV2D = Op(
    "conv2d",
    fake=_fake_conv2d,
    vmap=_vmap_images,
    gradient=Gradient(_save_conv2d, _conv2d_backward),
    backends=BACKENDS,
)
# Where torch computes, both gradients in one call: two would each lay out the incoming one anew.
CONV2D_BACKWARD = Op(
    "conv2d_backward",
    fake=_fake_backward,
    gradient=Gradient(_save_backward, _backward_of_backward),
    backends=(ATEN,),
)
CONV_TRANSPOSE2D = Op(
    "conv_transpose2d",
    fake=_fake_transposed,
    vmap=_vmap_images,
    gradient=Gradient(_save_transposed, _transposed_backward),
    backends=BACKENDS,
)
CONV2D_WEIGHT = Op(
    "conv2d_weight",
    fake=_fake_weight,
    vmap=_vmap_weight,
    gradient=Gradient(_save_weight, _weight_backward),
    backends=BACKENDS,
)
ACTIVATION_BACKWARD = Op(
    "activation_backward", fake=_fake_activation, vmap=vmap_batches, gradient=ONCE, backends=BACKENDS
)


# Of a result whose planes are worth laying out line by line.
_LEAST_PIXELS = 150
# Of a window whose forward pass is worth more than torch's.
_MOST_TAPS = 9


def preferred(input: Tensor, weight: Tensor, groups: int, stride: Sequence[int] = (1, 1)) -> str | None:
    """The backend that was measured faster for such a convolution: torch's where a vendor's kernels win."""
    dtype = input.dtype
    if not input.is_cpu or dtype is torch.float16:
        return None  # torch converts no float16 to float32 by the panel
    out_channels, in_channels, height, width = weight.shape
    if out_channels == 0 or in_channels == 0:
        return None  # torch has no results without channels
    taps = height * width
    if groups == input.shape[1] == out_channels:
        native = dtype is torch.float64 or _native_by_channel(input, weight, taps, stride)
    elif dtype is torch.float64:
        native = taps > 1
    else:
        native = dtype is torch.float32 and groups == 1 and taps == 1
    return None if native else "aten"


def _native_by_channel(input: Tensor, weight: Tensor, taps: int, stride: Sequence[int]) -> bool:
    """Whether our kernels of a depthwise convolution beat oneDNN's."""
    few = taps <= _MOST_TAPS
    channels_last = not input.is_contiguous()  # nearly: whatever else it is, the choice may be off
    large = input.shape[2] * input.shape[3] >= _LEAST_PIXELS * stride[0] * stride[1]
    if input.dtype is torch.float32:
        if needs_autograd((input, weight)):
            return channels_last or large or not few
        return few and (channels_last or large)
    # In bfloat16 oneDNN's gradients are quick for few taps without a stride alone; its results, but for large planes.
    if needs_autograd((input, weight)) and (not few or max(stride) > 1):
        return True
    return few and large and not channels_last and max(stride) == 1


def autocast(*values: Any) -> tuple[Any, ...]:
    """The tensors of a convolution, the input first, as torch.autocast has torch's take them: float64 stays."""
    device = values[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return values
    dtype = torch.get_autocast_dtype(device)

    def cast(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(map(cast, value))
        return value.to(dtype) if isinstance(value, Tensor) and value.dtype in _CAST else value

    return tuple(map(cast, values))


def check_weight(
    input: Tensor, weight: Any, bias: Any, groups: Any, *, transposed: bool = False, name: str = "weight"
) -> None:
    """Raise unless weight and bias fit (B, C, H, W): (O, C / groups, kh, kw), transposed (C, O / groups, kh, kw)."""
    # As in `image`: a function is called only to say what is wrong.
    if not isinstance(weight, Tensor):
        _check.is_a(name, weight, Tensor)
    shape = weight.shape
    letters = "(C, O / groups, kh, kw)" if transposed else "(O, C / groups, kh, kw)"
    if len(shape) != 4:
        _check.ndim(name, weight, 4, letters)
    dtype, device = input.dtype, input.device
    if weight.dtype is not dtype or weight.device != device:
        _refuse_kind(name, weight, input)
    if type(groups) is not int:
        _check.count("groups", groups)
    channels = input.shape[1]
    if groups < 1 or channels % groups or shape[0] % groups:
        counts = f"{channels} channels" if transposed else f"{channels} and {shape[0]} channels"
        raise ValueError(f"groups: expected a divisor of {counts}, got {groups}")
    expected = channels if transposed else channels // groups
    if shape[0 if transposed else 1] != expected:
        raise ValueError(
            f"{name}: expected shape {letters} with C={channels} and groups={groups}, got {_check.describe(weight)}"
        )
    if bias is not None:
        outputs = shape[1] * groups if transposed else shape[0]
        if not isinstance(bias, Tensor):
            _check.is_a("bias", bias, Tensor)
        if bias.shape != (outputs,):
            raise ValueError(f"bias: expected shape (O,) with O={outputs}, got {_check.describe(bias)}")
        if bias.dtype is not dtype or bias.device != device:
            _refuse_kind("bias", bias, input)


def _refuse_kind(name: str, value: Tensor, input: Tensor) -> None:
    _check.same_device(name, value, "input", input)
    _check.dtype(name, value, (input.dtype,), f"{input.dtype} as input")
