"""IoU in Triton beyond agreement with the reference: its gradient is that of the C++ kernels, wild boxes included."""

from __future__ import annotations

import pytest
import torch

from contract import DTYPES, cases_of, tensors
from visionops._backend import INTERPRETED, TRITON
from visionops._op import REGISTRY
from visionops.testing import Case

PUBLIC = REGISTRY["box_iou"]
DEVICE = "cpu" if INTERPRETED else "cuda"
WHY_NOT = TRITON.why_not(PUBLIC.op, DEVICE, torch.float32)
CASES = [case for case in cases_of(PUBLIC) if case.args[0].dtype.kind == "f"]


# Interpreted, a call takes long: there dtypes beside float32 have some of the cases.
CALLS = [
    pytest.param(case, dtype, id=f"{case.name}-{dtype}")
    for i, case in enumerate(CASES)
    for dtype in ("float32", "float64", "bfloat16")
    if not INTERPRETED or dtype == "float32" or i % 8 == 0
]


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.parametrize(("case", "dtype"), CALLS)
def test_gradient_is_that_of_the_native_kernels(case: Case, dtype: str) -> None:
    if INTERPRETED and dtype == "bfloat16" and case.name.startswith("denormal"):
        pytest.skip("Triton's interpreter widens subnormal bfloat16 wrongly: 1e-40 becomes 0")
    gradients = []
    for backend, device in (("native", "cpu"), ("triton", DEVICE)):
        (a, b), options = tensors(case, DTYPES[dtype], device)
        a, b = a.requires_grad_(), b.requires_grad_()
        value = PUBLIC.function(a, b, **options, backend=backend)
        weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype, device=device).reshape(value.shape)
        (value * weights).sum().backward()
        gradients.append([a.grad.cpu(), b.grad.cpu()])
    for ours, theirs in zip(*gradients, strict=True):
        # Of a sum of terms that cancel, the largest decides how well it is known.
        scale = max(1.0, ours[ours.isfinite()].abs().max().item()) if ours.numel() else 1.0
        tolerance = {"float64": 1e-11, "float32": 1e-5, "bfloat16": 2e-2}[dtype]
        torch.testing.assert_close(theirs, ours, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
