"""Batch norm with what follows it: a residual and an activation, in as few readings as the mathematics allows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._backend import NATIVE, TRITON
from visionops._codes import ACTIVATIONS
from visionops._layout import empty_image, is_channels_last
from visionops._op import FLOATING, ONCE, Gradient, Op, needs_autograd, vmap_one_by_one
from visionops.norm.fold_batch_norm import check_channels

# Their slope has two values: one bit an element is all that backward needs of what the activation saw.
KINKED = frozenset(ACTIVATIONS[name] for name in ("relu", "leaky_relu", "relu6"))

COLUMNS = 256  # kBatchNormColumns of csrc/norm/fused_batch_norm.h


def wide(dtype: torch.dtype) -> torch.dtype:
    """Of the statistics of an image of a dtype, and of the gradients of its parameters."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def bits_shape(input: Tensor) -> tuple[Any, ...]:
    """Of a bit for each element: (B, C, bytes), or, with channels last, (rows, bytes): batch_norm_rows of csrc/norm.

    So it tells the layout that the input had.
    """
    batch, channels, height, width = input.shape
    if not is_channels_last(input):
        return batch, channels, (height * width + 7) // 8
    repeats = max(1, COLUMNS // channels)
    return (batch * height * width + repeats - 1) // repeats, (repeats * channels + 7) // 8


def fake_forward(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    residual: Tensor | None,
    activation: int,
    with_bits: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The shape rule: output, the statistics that backward reads, moved running estimates, bits of the slope."""
    statistics = input.shape[1] if training else 0
    moved_mean, moved_var = (
        input.new_empty(0, dtype=torch.float32)
        if estimate is None or not training
        else input.new_empty(statistics, dtype=estimate.dtype)
        for estimate in (running_mean, running_var)
    )
    return (
        empty_image(input, *input.shape[1:]),
        input.new_empty(statistics, dtype=wide(input.dtype)),
        input.new_empty(statistics, dtype=wide(input.dtype)),
        moved_mean,
        moved_var,
        input.new_empty(bits_shape(input) if with_bits else (0,), dtype=torch.uint8),
    )


def _fake_backward(
    grad: Tensor,
    input: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    residual: Tensor | None,
    bits: Tensor,
    training: bool,
    eps: float,
    activation: int,
    with_affine: bool,
    with_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = grad if input is None else input
    if input is None and bits.ndim > 1:
        layout = torch.channels_last if bits.ndim == 2 else torch.contiguous_format
        like = torch.empty_like(grad, memory_format=layout)
    parameters = like.shape[1] if with_affine else 0
    return (
        empty_image(like, *like.shape[1:]),
        grad.new_empty(parameters, dtype=wide(grad.dtype)),
        grad.new_empty(parameters, dtype=wide(grad.dtype)),
        empty_image(like, *like.shape[1:]) if with_residual else grad.new_empty(0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, weight, bias, mean, var, ctx.training, _, ctx.eps, residual, ctx.activation, _ = inputs
    _, batch_mean, batch_var, *_, bits = output
    if ctx.training:
        mean, var = batch_mean, batch_var
    _, of_weight, of_bias, *of_estimates, _, _, _, ctx.with_residual, _, _ = ctx.needs_input_grad
    # Here and not with the other checks: inside torch.func requires_grad reads False.
    check_estimates(*of_estimates)
    ctx.parameters = dtype_of(weight, of_weight), dtype_of(bias, of_bias)
    recomputes = ctx.activation not in KINKED and ctx.activation != ACTIVATIONS[None]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(
        input if ctx.training or of_weight or of_bias or recomputes else None,
        weight,
        bias if recomputes else None,
        mean,
        var,
        residual if recomputes else None,
        bits,
    )


def check_estimates(*asked: bool) -> None:
    """Raise if the gradient of a running estimate is asked for."""
    if any(asked):
        raise ValueError("running_mean, running_var: expected no requires_grad, for they have no gradient, got True")


def dtype_of(parameter: Tensor | None, asked: bool) -> torch.dtype | None:
    """Of a parameter whose gradient is asked for."""
    return parameter.dtype if asked and parameter is not None else None


def of_parameters(dtypes: tuple[torch.dtype | None, ...], *gradients: Tensor) -> list[Tensor | None]:
    """The gradients of weight and bias in the dtypes of those that have one."""
    return [
        None if dtype is None else grad if grad.dtype == dtype else grad.to(dtype)  # even to its own, that takes long
        for dtype, grad in zip(dtypes, gradients, strict=True)
    ]


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    # A residual without activation has the gradient of the output itself.
    computes_residual = ctx.with_residual and ctx.activation != ACTIVATIONS[None]
    grad_input, grad_weight, grad_bias, grad_residual = FUSED_BATCH_NORM_BACKWARD(
        grad,
        *ctx.saved_tensors,
        ctx.training,
        ctx.eps,
        ctx.activation,
        ctx.parameters != (None, None),
        computes_residual,
        backend=ctx.backend,
    )
    return (
        grad_input,
        *of_parameters(ctx.parameters, grad_weight, grad_bias),
        *(None,) * 5,
        grad_residual if computes_residual else grad if ctx.with_residual else None,
        None,
        None,
    )


BACKENDS = (NATIVE, TRITON)
# Statistics are of one example, and the layout of its bits is its own.
FUSED_BATCH_NORM_BACKWARD = Op(
    "fused_batch_norm_backward", fake=_fake_backward, vmap=vmap_one_by_one, gradient=ONCE, backends=BACKENDS
)
FUSED_BATCH_NORM = Op(
    "fused_batch_norm", fake=fake_forward, vmap=vmap_one_by_one, gradient=Gradient(_save, _backward), backends=BACKENDS
)


@FUSED_BATCH_NORM.public
def fused_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """Batch norm, the addition of a residual and an activation in one operation.

    activation((input - mean) / sqrt(var + eps) * weight + bias + residual), with mean and biased var of each channel
    over batch, height and width in training, else the running estimates. In training these move in place by `momentum`
    towards the batch's mean and unbiased variance; an empty batch leaves them.

    Statistics are exact to about the input's own rounding however far from 0 it lies, and the same at any number of
    threads. Saved for backward are input and statistics, for relu, leaky_relu and relu6 a bit an element, and for silu,
    hardswish and gelu the residual: in no case more than what torch saves for the same. The input is not saved where
    its gradient does not depend on it: without training and gradients of weight and bias, unless for silu, hardswish
    and gelu.

    Args:
        input: (B, C, H, W) floating, of either memory layout, which the result shares.
        weight: (C,) floating of any dtype, or None for 1.
        bias: (C,) likewise, or None for 0.
        running_mean: (C,) likewise, or None in training.
        running_var: (C,) likewise, or None in training.
        training: Whether statistics are the batch's.
        momentum: How far the running estimates move, from 0 to 1.
        eps: Added to the variance.
        residual: (B, C, H, W) of the input's dtype, or None.
        activation: "relu", "leaky_relu" (0.01), "relu6", "silu", "hardswish", "gelu" (by erf), or None.
        backend: "native" or "triton", or None for the first that can run.

    Returns:
        (B, C, H, W), dtype and layout of input. Differentiable once in input, weight, bias and residual.

    Raises:
        ValueError: a shape or the activation does not fit; the running estimates are missing; there is one value per
            channel in training.
        TypeError: not floating tensors on one device, or the residual is not of the input's dtype.
        NotImplementedError: no backend runs here; the message says why.

    Source: Ioffe and Szegedy, arXiv:1502.03167; the merger of moments, Chan et al., 1979.

    >>> x = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 1, 2)
    >>> fused_batch_norm(x, None, None, None, None, True, activation="relu").flatten()
    tensor([0.0000, 0.0000, 0.4472, 1.3416])
    """
    channels = weight, bias, running_mean, running_var
    check_arguments(input, *channels, training, momentum, eps, residual=residual, activation=activation)
    number = ACTIVATIONS[activation]
    with_bits = number in KINKED and needs_autograd((input, *channels, residual))
    plain = bool(training), float(momentum), float(eps)
    output, _, _, *moved, _ = FUSED_BATCH_NORM(input, *channels, *plain, residual, number, with_bits, backend=backend)
    if training:
        move(running_mean, running_var, *moved)
    return output  # type: ignore[no-any-return]


def move(running_mean: Tensor | None, running_var: Tensor | None, moved_mean: Tensor, moved_var: Tensor) -> None:
    """Write the running estimates, if there are any, after a training call."""
    # What moved carries no gradient, as _save said: else the estimates would take the graph along.
    if running_mean is not None and running_var is not None:
        running_mean.copy_(moved_mean)
        running_var.copy_(moved_var)


def check_arguments(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *,
    residual: Tensor | None,
    activation: str | None,
) -> None:
    """Raise unless `fused_batch_norm`, or its in-place form, can be called so."""
    _check.is_a("input", input, Tensor)
    _check.ndim("input", input, 4, "(B, C, H, W)")
    _check.dtype("input", input, FLOATING, "floating")
    check_channels("input", input, 1, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    if (running_mean is None) != (running_var is None) or (running_mean is None and not training):
        raise ValueError(
            "running_mean, running_var: expected both, or in training neither, got "
            f"{' and '.join('None' if values is None else 'a tensor' for values in (running_mean, running_var))}"
        )
    _check.number("momentum", momentum)
    _check.number("eps", eps)
    if residual is not None:
        _check.is_a("residual", residual, Tensor)
        if residual.shape != input.shape:
            raise ValueError(
                f"residual: expected the shape of input, {_check.describe(input)}, got {_check.describe(residual)}"
            )
        if residual.dtype != input.dtype:
            raise TypeError(f"residual: expected dtype {input.dtype} as input, got {residual.dtype}")
        _check.same_device("residual", residual, "input", input)
    _check.one_of("activation", activation, ACTIVATIONS)
