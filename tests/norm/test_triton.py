"""Batch norm in Triton beyond agreement with the reference: gradients are those of the C++ kernels, in both layouts."""

from __future__ import annotations

import pytest
import torch

from contract import DTYPES, cases_of, tensors
from visionops._backend import INTERPRETED, TRITON
from visionops._op import REGISTRY
from visionops.norm.cases import ACTIVATIONS
from visionops.testing import Case

PUBLIC = REGISTRY["fused_batch_norm"]
DEVICE = "cpu" if INTERPRETED else "cuda"
WHY_NOT = TRITON.why_not(PUBLIC.op, DEVICE, torch.float32)
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
CASES = [case for case in cases_of(PUBLIC) if not case.name.startswith("wild")]
KINDS = [(case, "float32") for case in CASES]
KINDS += [(case, dtype) for case in CASES[:9] for dtype in ("float64", "bfloat16")]


def results(case: Case, dtype: str, layout: torch.memory_format, backend: str, device: str) -> list[torch.Tensor]:
    """The output and the gradients of all that has one."""
    args, options = tensors(case, DTYPES[dtype], device)
    args = [a.to(memory_format=layout) if torch.is_tensor(a) and a.ndim == 4 else a for a in args]
    leaves = [a.requires_grad_() for a in (*args[:3], options.get("residual")) if a is not None]
    out = PUBLIC.function(*args, **options, backend=backend)
    grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=device).reshape(out.shape)
    return [t.cpu() for t in (out, *torch.autograd.grad(out, leaves, grad))]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(("case", "dtype"), KINDS, ids=[f"{case.name}-{dtype}" for case, dtype in KINDS])
def test_gradients_are_those_of_the_native_kernels(case: Case, dtype: str, layout: torch.memory_format) -> None:
    expected = results(case, dtype, layout, "native", "cpu")
    actual = results(case, dtype, layout, "triton", DEVICE)
    for ours, theirs in zip(actual, expected, strict=True):
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 4e-2}[ours.dtype]
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_frozen_norm_saves_as_little(activation: str | None, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(3, 20, 5, 7, generator=generator).contiguous(memory_format=layout) for _ in range(2))
    statistics = torch.zeros(20), torch.full((20,), 2.0)
    both = []
    for backend, device in (("native", "cpu"), ("triton", DEVICE)):
        leaf = x.to(device).requires_grad_()
        moved = [t.to(device) for t in statistics]
        out = PUBLIC.function(leaf, None, None, *moved, activation=activation, backend=backend)
        # The arriving gradient need not be laid out as the input was.
        both.append(torch.autograd.grad(out, leaf, grad.contiguous().to(device))[0].cpu())
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-6)


def test_variance_far_from_zero_and_moved_estimates() -> None:
    x = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(0)) + 1e4
    both = []
    for backend, device in (("native", "cpu"), ("triton", DEVICE)):
        estimates = [torch.zeros(3, dtype=torch.float64, device=device) for _ in range(2)]
        PUBLIC.function(x.to(device), None, None, *estimates, True, 1.0, backend=backend)
        both.append([t.cpu() for t in estimates])
    torch.testing.assert_close(*both, rtol=1e-6, atol=0)


def test_one_value_per_channel_is_an_error() -> None:
    with pytest.raises(ValueError, match="input: expected more than one value per channel"):
        PUBLIC.function(torch.ones(1, 2, 1, 1, device=DEVICE), None, None, None, None, True, backend="triton")
