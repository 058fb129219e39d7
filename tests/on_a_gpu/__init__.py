"""What the tests call on a GPU, a module per room: each on another stream, in a graph, and without a wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


@dataclass(frozen=True)
class GpuCall:
    """A call and its inputs.

    Attributes:
        name: Of the test.
        inputs: Of a seed, on the CPU.
        call: Of the inputs, on a GPU.
        tolerance: Relative and absolute, of floating results; indices and counts are equal.
        on_cpu: What says the right result, where it is not the same call.
    """

    name: str
    inputs: Callable[[int], list[Tensor]]
    call: Callable[..., tuple[Tensor, ...]]
    tolerance: float
    on_cpu: Callable[..., tuple[Tensor, ...]] | None = None

    def expected(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The results on the CPU."""
        return (self.on_cpu or self.call)(*inputs)

    def check(self, there: tuple[Tensor, ...], inputs: list[Tensor]) -> None:
        """Raise AssertionError unless these are the results, laid out alike."""
        for got, expected in zip(there, self.expected(inputs), strict=True):
            error = self.tolerance if expected.is_floating_point() else 0
            torch.testing.assert_close(got.cpu(), expected, rtol=error, atol=error)
            assert got.stride() == expected.stride()


def learns(call: Callable[..., Any], inputs: list[Tensor], grads: list[Tensor]) -> tuple[Tensor, ...]:
    """The results of a call and the gradients of its inputs."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    results = call(*leaves)
    results = results if isinstance(results, tuple) else (results,)
    return *(r.detach() for r in results), *torch.autograd.grad(results, leaves, grads)
