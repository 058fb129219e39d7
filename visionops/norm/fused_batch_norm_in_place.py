"""The in-place form of `fused_batch_norm`: the output overwrites the input, which backward rebuilds where it can."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionops._codes import ACTIVATIONS
from visionops._layout import empty_image, is_channels_last
from visionops._op import ONCE, Op, needs_autograd
from visionops.norm.fused_batch_norm import (
    FUSED_BATCH_NORM_BACKWARD,
    KINKED,
    check_arguments,
    check_estimates,
    dtype_of,
    fake_forward,
    move,
    of_parameters,
    wide,
)

# Every value of their output tells what it came from.
INVERTIBLE = (None, "leaky_relu")

# Of a bias, that a weight must exceed: what is rebuilt then has lost no more than 6 bits of the output.
LEAST_WEIGHT = 2.0**-6


def _fake(*args: Any) -> tuple[Tensor, ...]:
    return fake_forward(*args)[1:]


def _fake_backward(
    grad: Tensor,
    output: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    var: Tensor,
    bits: Tensor,
    training: bool,
    eps: float,
    activation: int,
    with_affine: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    parameters = [grad.new_empty(output.shape[1] if with_affine else 0, dtype=wide(grad.dtype)) for _ in range(2)]
    return empty_image(output, *output.shape[1:]), parameters[0], parameters[1]


IN_PLACE = Op("fused_batch_norm_in_place", fake=_fake)
IN_PLACE_BACKWARD = Op("fused_batch_norm_in_place_backward", fake=_fake_backward, gradient=ONCE)


class _InPlace(torch.autograd.Function):
    """What autograd knows of a call that overwrites its first argument."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
        activation: str | None,
        backend: str | None,
    ) -> Tensor:
        number = ACTIVATIONS[activation]
        _, of_weight, of_bias, ctx.with_residual, *of_estimates = ctx.needs_input_grad[:6]
        check_estimates(*of_estimates)
        ctx.training, ctx.eps, ctx.activation = training, eps, number
        ctx.parameters = dtype_of(weight, of_weight), dtype_of(bias, of_bias)
        recomputes = activation is not None and number not in KINKED
        reads_input = training or of_weight or of_bias or recomputes
        ctx.rebuilds = reads_input and residual is None and activation in INVERTIBLE and _outweighs(weight, bias)
        kept = input.clone() if reads_input and not ctx.rebuilds else None
        plain = training, momentum, eps, residual, number, number in KINKED
        mean, var, *moved, bits = IN_PLACE(input, weight, bias, running_mean, running_var, *plain, backend=backend)
        if training:
            move(running_mean, running_var, *moved)
        else:
            mean, var = running_mean, running_var
        ctx.mark_dirty(input)
        ctx.set_materialize_grads(False)
        if ctx.rebuilds:
            ctx.save_for_backward(input, weight, bias, var, bits)
        else:
            others = (bias, mean, var, residual) if recomputes else (None, mean, var, None)
            ctx.save_for_backward(kept, weight, *others, bits)
        return input

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        if grad is None:  # nobody asked for the output's
            return (None,) * 11
        with_affine = ctx.parameters != (None, None)
        arguments = (grad, *ctx.saved_tensors, ctx.training, ctx.eps, ctx.activation, with_affine)
        if ctx.rebuilds:
            grad_input, *of_affine = IN_PLACE_BACKWARD(*arguments)
            grad_residual = None
        else:
            computes_residual = ctx.with_residual and ctx.activation != ACTIVATIONS[None]
            grad_input, *of_affine, grad_residual = FUSED_BATCH_NORM_BACKWARD(*arguments, computes_residual)
            if not computes_residual:
                grad_residual = grad if ctx.with_residual else None
        return grad_input, *of_parameters(ctx.parameters, *of_affine), grad_residual, *(None,) * 7


def _outweighs(weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether the output holds the normalised input's digits: no weight is 0, or lost beside its bias."""
    if weight is None and bias is None:
        return True
    gain = torch.ones(()) if weight is None else weight.detach().abs()
    return bool((gain > (0.0 if bias is None else LEAST_WEIGHT * bias.detach().abs())).all())


def fused_batch_norm_(
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
    """`visionops.fused_batch_norm`, whose output overwrites its input.

    What is computed is the same. For a gradient the input is rebuilt from the output, which the next layer keeps
    anyway, where that can be done: without residual, with no activation or leaky_relu, and with every weight above
    2^-6 of its bias; then one tensor of the image's size less is kept, and the gradients' last 6 bits may differ.
    Otherwise a copy of the input is kept. Which it is depends on values of weight and bias.

    Args:
        input: (B, C, H, W) floating, dense in either memory layout; overwritten. Whatever made it must not need it for
            a gradient of its own, as a convolution does not.
        weight: As in `fused_batch_norm`, and so are all that follow.
        bias: As in `fused_batch_norm`.
        running_mean: As in `fused_batch_norm`.
        running_var: As in `fused_batch_norm`.
        training: As in `fused_batch_norm`.
        momentum: As in `fused_batch_norm`.
        eps: As in `fused_batch_norm`.
        residual: As in `fused_batch_norm`. It may be the input, but not share memory with it otherwise.
        activation: As in `fused_batch_norm`.
        backend: "native", or None for the first that can run.

    Returns:
        `input`. Differentiable once in input, weight, bias and residual; torch.compile follows calls without gradient.

    Raises:
        ValueError: as `fused_batch_norm`, or the input is not dense.
        TypeError: as `fused_batch_norm`.
        NotImplementedError: no backend runs here; the message says why.
        RuntimeError: the input is a leaf that requires grad, or a view of one.

    Source: Rota Bulo et al., arXiv:1712.02616.

    >>> x = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 1, 2)
    >>> fused_batch_norm_(x, None, None, None, None, True, activation="relu") is x
    True
    >>> x.flatten()
    tensor([0.0000, 0.0000, 0.4472, 1.3416])
    """
    channels = weight, bias, running_mean, running_var
    check_arguments(input, *channels, training, momentum, eps, residual=residual, activation=activation)
    if not (input.is_contiguous() or is_channels_last(input)):
        raise ValueError(f"input: expected it dense in memory, got strides {input.stride()}")
    plain = bool(training), float(momentum), float(eps)
    if needs_autograd((input, weight, bias, residual)):
        # autograd says so too, but only when the values are gone.
        whole = input._base if input._is_view() and input._base is not None else input
        if whole.is_leaf and whole.requires_grad:
            raise RuntimeError("input: expected one that may be overwritten, got a leaf Variable that requires grad")
        if residual is input:  # whose values a gradient may need
            residual = input.clone()
        return _InPlace.apply(input, weight, bias, residual, *channels[2:], *plain, activation, backend)  # type: ignore[no-any-return, no-untyped-call]
    _, _, *moved, _ = IN_PLACE(input, *channels, *plain, residual, ACTIVATIONS[activation], False, backend=backend)
    if training:
        move(running_mean, running_var, *moved)
    if not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version(input)
    return input
