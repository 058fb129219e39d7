"""The CUDA kernels of room `roi` on an emulated GPU: gradients as on the CPU, many blocks, barriers that are needed."""

from __future__ import annotations

from typing import Any
from unittest import mock

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


def summed(how: str) -> Any:
    """Gradients by atomics or gathered: what torch's setting decides, which the suite needs for poisoned memory."""
    return mock.patch.object(torch, "are_deterministic_algorithms_enabled", return_value=how == "gathered")


def results(name: str, backend: str, dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
    leaves = [m.requires_grad_() for m in maps(dtype, layout)]
    result = CALLS[name](leaves, boxes(), backend)
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(dtype)
    grads = torch.autograd.grad(result, leaves, grad, allow_unused=True)
    return [result, *(g for g in grads if g is not None)]


@pytest.mark.parametrize("how", ["atomic", "gathered"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients_are_the_cpu_s(
    name: str, dtype: torch.dtype, layout: torch.memory_format, how: str
) -> None:
    torch.ops.visionops.emulation_seed(0)
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
    with summed(how):
        emulated, native = (results(name, backend, dtype, layout) for backend in ("emulated", "native"))
    for got, expected in zip(emulated, native, strict=True):
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        assert got.stride() == expected.stride()


def in_three_orders(name: str, how: str) -> list[list[Tensor]]:
    runs = []
    for seed in range(3):
        torch.ops.visionops.emulation_seed(seed)
        with summed(how):
            runs.append(results(name, "emulated", torch.float32, torch.contiguous_format))
    return runs


@pytest.mark.parametrize("name", CALLS)
def test_a_gathered_gradient_is_the_same_in_every_order(name: str) -> None:
    first, *others = in_three_orders(name, "gathered")
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_sums_by_atomics_are_rounded_as_they_come(name: str) -> None:
    (result, *grads), *others = in_three_orders(name, "atomic")
    for other, *other_grads in others:
        assert torch.equal(other, result)
        for grad, other_grad in zip(grads, other_grads, strict=True):
            torch.testing.assert_close(other_grad, grad, rtol=1e-4, atol=1e-4)
    assert not all(torch.equal(a, b) for _, *run in others for a, b in zip(grads, run, strict=True))


def test_16_bit_gradients_are_summed_in_float32() -> None:
    # 4096 + 1 is 4096 in float16: added one by one, the gradient would stop there.
    rows = torch.tensor([[0.0, 0, 0, 1, 1]]).repeat(5000, 1)
    for call in (
        lambda x: roi_align(x, rows, 1, backend="emulated"),
        lambda x: roi_align(x, rows, 1, mode="max", backend="emulated"),
        lambda x: roi_pool(x, rows, 1, backend="emulated"),
    ):
        for how in ("atomic", "gathered"):
            leaf = torch.ones(1, 1, 1, 1, dtype=torch.float16, requires_grad=True)
            with summed(how):
                (grad,) = torch.autograd.grad(call(leaf).sum(), leaf)
            assert grad.item() == 5000


def test_an_index_outside_gives_zeros() -> None:
    # On a GPU nobody waits to say that it is wrong.
    rows = torch.tensor([[2.0, 1, 1, 9, 9], [-1, 1, 1, 9, 9], [1e30, 1, 1, 9, 9]])
    for call in CALLS.values():
        leaves = [m.requires_grad_() for m in maps(torch.float32, torch.contiguous_format)]
        result = call(leaves, rows, "emulated")
        assert (result == 0).all()
        for how in ("atomic", "gathered"):
            with summed(how):
                grads = torch.autograd.grad(result.sum(), leaves, allow_unused=True, retain_graph=True)
            assert all(grad is None or (grad == 0).all() for grad in grads)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "line"), barriers_of("roi"))
def test_every_barrier_is_needed(file: str, line: int) -> None:
    call = "results('avg', 'emulated', torch.float32, torch.contiguous_format)"
    setup = f"from roi.test_emulated import results; torch.use_deterministic_algorithms(True); expected = {call}"
    check_needed(file, line, setup, f"all(map(torch.equal, {call}, expected))")
