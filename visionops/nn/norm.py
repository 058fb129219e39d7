"""Batch norms as modules: what follows them, a residual and an activation, is done in the same pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionops import _check
from visionops._codes import ACTIVATIONS
from visionops.norm import fused_batch_norm, fused_batch_norm_


class BatchNorm2d(torch.nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` with an activation: activation(BN(input) + residual) in one operation.

    Arguments, parameters, buffers and state_dict are torch's.

    Args:
        num_features: C of the input (B, C, H, W).
        eps: Added to the variance.
        momentum: How far the running estimates move; None for the mean over all batches.
        affine: Whether there are weight and bias.
        track_running_stats: Whether there are running estimates; without them eval uses the batch's.
        device: Of parameters and buffers.
        dtype: Likewise; float32 also beside a 16-bit input.
        activation: As in `visionops.fused_batch_norm`.

    Source: Ioffe and Szegedy, arXiv:1502.03167.

    >>> BatchNorm2d(2, activation="relu")(torch.ones(1, 2, 2, 2), residual=torch.ones(1, 2, 2, 2)).sum()
    tensor(8., grad_fn=<SumBackward0>)
    """

    activation: str | None = None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: str | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        _check.one_of("activation", activation, ACTIVATIONS)
        self.activation = activation

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalise, add and activate (B, C, H, W)."""
        return self.normalised(input, residual, self.activation)

    def activated(self, input: Tensor, activation: str | None) -> Tensor:
        """As forward, with another activation."""
        return self.normalised(input, None, activation)

    def normalised(
        self, input: Tensor, residual: Tensor | None, activation: str | None, *, in_place: bool = False
    ) -> Tensor:
        """As forward, with another activation; `in_place` overwrites the input."""
        momentum, tracked = self.momentum or 0.0, self.num_batches_tracked
        mean, var = self.running_mean, self.running_var
        by_batch = self.training or mean is None
        # Without running estimates, eval takes the batch's; in training they move only where they are tracked.
        if self.training and not self.track_running_stats:
            mean = var = None
        elif self.training and tracked is not None:
            tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(tracked)
        function = fused_batch_norm_ if in_place else fused_batch_norm
        return function(
            input,
            self.weight,
            self.bias,
            mean,
            var,
            by_batch,
            momentum,
            self.eps,
            residual=residual,
            activation=activation,
        )

    def extra_repr(self) -> str:
        """Torch's, and the activation."""
        torchs: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return torchs + (f", activation={self.activation!r}" if self.activation else "")


class FrozenBatchNorm2d(torch.nn.Module):
    """Batch norm whose statistics, weight and bias never change, as detectors fine-tune with.

    All four are buffers; the state_dict is that of torchvision's module of this name, and one of a
    `torch.nn.BatchNorm2d` loads too. Backward needs no input: for relu a bit an element is saved, else nothing.

    Args:
        num_features: C of the input (B, C, H, W).
        eps: Added to the variance.
        activation: As in `visionops.fused_batch_norm`.

    >>> FrozenBatchNorm2d(2, eps=0.0)(torch.ones(1, 2, 1, 1)).flatten()
    tensor([1., 1.])
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, *, activation: str | None = None) -> None:
        super().__init__()
        _check.count("num_features", num_features)
        _check.one_of("activation", activation, ACTIVATIONS)
        self.eps = eps
        self.activation = activation
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalise, add and activate (B, C, H, W)."""
        return fused_batch_norm(
            input,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            eps=self.eps,
            residual=residual,
            activation=self.activation,
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Size, eps and the activation."""
        activation = f", activation={self.activation!r}" if self.activation else ""
        return f"{len(self.weight)}, eps={self.eps}{activation}"
