"""The CUDA kernels of room `roi` on an emulated GPU: gradients as on the CPU, many blocks, barriers that are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from barriers import barriers_of, check_needed
from visionops import multiscale_roi_align, roi_align, roi_pool
from visionops.roi import cases
from visionops.roi.roi_align import ROI_ALIGN

pytestmark = pytest.mark.skipif(
    "emulated" not in [backend.name for backend in ROI_ALIGN.backends], reason="VISIONOPS_EMULATION names no library"
)
SCALES = [0.5, 0.25]


def maps(dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
    rng = np.random.default_rng(0)
    sizes = (2, 3, 20, 17), (2, 3, 10, 9)
    return [torch.from_numpy(rng.normal(size=size)).to(dtype).contiguous(memory_format=layout) for size in sizes]


def boxes() -> Tensor:
    # More than an emulated block has threads (64).
    rng = np.random.default_rng(1)
    drawn = [cases.random_rois(rng, 40, 2, 40, 34), cases.random_rois(rng, 40, 2, 400, 340)]
    odd = [cases.ACROSS, cases.OUTSIDE, cases.EMPTY, cases.INVERTED, cases.WILD, cases.HUGE]
    return torch.from_numpy(np.concatenate([*drawn, *odd]))


CALLS: dict[str, Any] = {
    "avg": lambda m, b, backend: roi_align(m[0], b, (3, 2), 0.5, 2, True, backend=backend),
    "avg-adaptive": lambda m, b, backend: roi_align(m[0], b, (2, 7), 0.5, backend=backend),
    "max": lambda m, b, backend: roi_align(m[0], b, (3, 2), 0.5, 2, True, mode="max", backend=backend),
    "max-adaptive": lambda m, b, backend: roi_align(m[0], b, (2, 3), 0.5, mode="max", backend=backend),
    "levels": lambda m, b, backend: multiscale_roi_align(m, b, 2, SCALES, canonical_size=30, backend=backend),
    "pool": lambda m, b, backend: roi_pool(m[0], b, (3, 2), 0.5, backend=backend),
    "pool-many": lambda m, b, backend: roi_pool(m[0], b, (2, 30), 0.5, backend=backend),
}


def results(name: str, backend: str, dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
    leaves = [m.requires_grad_() for m in maps(dtype, layout)]
    result = CALLS[name](leaves, boxes(), backend)
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(dtype)
    grads = torch.autograd.grad(result, leaves, grad, allow_unused=True)
    return [result, *(g for g in grads if g is not None)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients_are_the_cpu_s(name: str, dtype: torch.dtype, layout: torch.memory_format) -> None:
    torch.ops.visionops.emulation_seed(0)
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
    emulated, native = (results(name, backend, dtype, layout) for backend in ("emulated", "native"))
    for got, expected in zip(emulated, native, strict=True):
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        assert got.stride() == expected.stride()


def test_the_gradient_is_the_same_in_every_order() -> None:
    for name in CALLS:
        runs = []
        for seed in range(3):
            torch.ops.visionops.emulation_seed(seed)
            runs.append(results(name, "emulated", torch.float32, torch.contiguous_format))
        for other in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_an_index_outside_gives_zeros() -> None:
    # On a GPU nobody waits to say that it is wrong.
    rows = torch.tensor([[2.0, 1, 1, 9, 9], [-1, 1, 1, 9, 9], [1e30, 1, 1, 9, 9]])
    for call in CALLS.values():
        leaves = [m.requires_grad_() for m in maps(torch.float32, torch.contiguous_format)]
        result = call(leaves, rows, "emulated")
        assert (result == 0).all()
        for grad in torch.autograd.grad(result.sum(), leaves, allow_unused=True):
            assert grad is None or (grad == 0).all()


@pytest.mark.parametrize(("file", "line"), barriers_of("roi"))
def test_every_barrier_is_needed(file: str, line: int) -> None:
    call = "results('avg', 'emulated', torch.float32, torch.contiguous_format)"
    setup = f"from roi.test_emulated import results; expected = {call}"
    check_needed(file, line, setup, f"all(map(torch.equal, {call}, expected))")
