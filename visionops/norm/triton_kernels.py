"""Batch norm in Triton: the kernels that a call launches, forward and backward."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionops._layout import is_channels_last
from visionops._triton_launch import launch
from visionops.norm.fused_batch_norm import KINKED, bits_shape, wide
from visionops.norm.triton_backward import backward_kernel, backward_merge_kernel, backward_sums_kernel
from visionops.norm.triton_forward import coefficients_kernel, moments_kernel, output_kernel, statistics_kernel
from visionops.norm.triton_tiles import CHANNELS, PIECES, Rows


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def _laid_out(image: Tensor, last: bool) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _coefficients(
    image: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, kinds: int
) -> Tensor:
    channels = image.shape[1]
    out = image.new_empty((kinds, channels), dtype=wide(image.dtype))
    launch(
        coefficients_kernel, (triton.cdiv(channels, CHANNELS),),
        *_present(mean.contiguous(), var.contiguous(), weight, bias), out, channels, eps,
        WEIGHT=weight is not None, BIAS=bias is not None, COMPUTE=_compute(image.dtype), CHANNELS=CHANNELS,
    )  # fmt: skip
    return out


def _present(first: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Tensors for a kernel; in place of an absent one, which it does not read, the first."""
    return first, *(first if tensor is None else tensor.contiguous() for tensor in tensors)


def fused_batch_norm(
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
    """The operation `fused_batch_norm` on this backend; results as its shape rule has them."""
    image = _laid_out(input, is_channels_last(input))
    channels, count = image.shape[1], image.numel() // max(image.shape[1], 1)
    if training and count == 1:
        raise ValueError("input: expected more than one value per channel with training=True, got one")
    out = torch.empty_like(image)
    bits = image.new_empty(bits_shape(image) if with_bits else (0,), dtype=torch.uint8)
    mean, var, kept_mean, kept_var = (
        image.new_zeros(channels if training else 0, dtype=dtype)
        for dtype in (*(torch.float64,) * 2, *(wide(image.dtype),) * 2)
    )
    moved_mean, moved_var = (
        estimate.clone() if training and estimate is not None else image.new_empty(0, dtype=torch.float32)
        for estimate in (running_mean, running_var)
    )
    results = (out, kept_mean, kept_var, moved_mean, moved_var, bits)
    if image.numel() == 0:
        return results
    rows, compute = Rows.of(image), _compute(image.dtype)
    if training:
        lanes, along, runs, constants = rows.runs()
        means, squares = (image.new_empty((runs, lanes), dtype=torch.float64) for _ in range(2))
        launch(
            moments_kernel, (runs * triton.cdiv(lanes, constants["LANES"]),),
            image, means, squares, lanes, along, rows.columns, image.numel(),
            LAST=rows.last, COMPUTE=compute, **constants,
        )  # fmt: skip
        moves = running_mean is not None and running_var is not None
        launch(
            statistics_kernel, (triton.cdiv(channels, CHANNELS),),
            *_present(means, squares, mean, var, kept_mean, kept_var, running_mean, running_var), moved_mean, moved_var,
            channels, rows.repeats, runs, along, rows.pixels, count, momentum, count / (count - 1),
            MOVED=moves, RUN=constants["RUN"], LAST=rows.last, PIECES=PIECES, CHANNELS=CHANNELS,
        )  # fmt: skip
    else:
        assert running_mean is not None
        assert running_var is not None
    used = (mean, var) if training or running_mean is None or running_var is None else (running_mean, running_var)
    coefficients = _coefficients(image, *used, weight, bias, eps, 3)
    other = None if residual is None else _laid_out(residual, rows.last)
    programs, tile = rows.tile()
    launch(
        output_kernel, (programs,),
        image, image if other is None else other, coefficients, out, bits,
        rows.rows, rows.columns, image.numel(), channels, rows.row_bytes,
        ACTIVATION=activation, BITS=with_bits, RESIDUAL=residual is not None, LAST=rows.last, COMPUTE=compute, **tile,
    )  # fmt: skip
    return results


def fused_batch_norm_backward(
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
    """The operation `fused_batch_norm_backward` on this backend; results as its shape rule has them."""
    if input is not None:
        last = is_channels_last(input)
    else:
        last = bits.ndim == 2 if bits.ndim > 1 else is_channels_last(grad)
    arriving = _laid_out(grad, last)
    image = arriving if input is None else _laid_out(input, last)
    channels, count = image.shape[1], image.numel() // max(image.shape[1], 1)
    grad_input = torch.empty_like(image)
    grad_residual = torch.empty_like(image) if with_residual else image.new_empty(0)
    grad_weight, grad_bias = (
        image.new_zeros(channels if with_affine else 0, dtype=wide(image.dtype)) for _ in range(2)
    )
    results = (grad_input, grad_weight, grad_bias, grad_residual)
    if image.numel() == 0:
        return results
    rows, compute = Rows.of(image), _compute(image.dtype)
    coefficients = _coefficients(image, mean, var, weight, bias, eps, 5)
    other = image if residual is None else _laid_out(residual, last)
    shared = {
        "ACTIVATION": activation,
        "KINK": activation in KINKED,
        "RESIDUAL": residual is not None,
        "LAST": last,
        "COMPUTE": compute,
    }
    if training or with_affine:
        lanes, along, runs, constants = rows.runs()
        sums, products = (image.new_empty((runs, lanes), dtype=torch.float64) for _ in range(2))
        launch(
            backward_sums_kernel, (runs * triton.cdiv(lanes, constants["LANES"]),),
            arriving, image, other, bits, coefficients, sums, products,
            lanes, along, rows.columns, image.numel(), channels, rows.row_bytes,
            **shared, **constants,
        )  # fmt: skip
        launch(
            backward_merge_kernel, (triton.cdiv(channels, CHANNELS),),
            *_present(sums, products, mean, var, weight), coefficients, grad_weight, grad_bias,
            channels, runs * rows.repeats, count, eps,
            AFFINE=with_affine, WEIGHT=weight is not None, COMPUTE=compute, PIECES=PIECES, CHANNELS=CHANNELS,
        )  # fmt: skip
    programs, tile = rows.tile()
    launch(
        backward_kernel, (programs,),
        arriving, image, other, bits, coefficients, grad_input, grad_residual,
        rows.rows, rows.columns, image.numel(), channels, rows.row_bytes,
        TRAINING=training, BOTH=with_residual, **shared, **tile,
    )  # fmt: skip
    return results
