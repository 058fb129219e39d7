"""Both layouts, on every backend: results and gradients are those of the other one, laid out as the image is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from contract import cases_of, outputs, targets, tensors
from drawn_windows import DTYPES, in_layout
from visionops import avg_pool2d, max_pool2d
from visionops.testing import compare

Pooling = Callable[..., torch.Tensor]
BOTH = [pytest.param(max_pool2d, F.max_pool2d, id="max"), pytest.param(avg_pool2d, F.avg_pool2d, id="avg")]


@pytest.mark.parametrize("target", [t for t in targets() if t.values[0].public.room == "pool"])  # type: ignore[attr-defined]
def test_every_case_in_the_other_layout(target: Any) -> None:
    device = target.device
    for case in cases_of(target.public):
        args, kwargs = tensors(case, torch.float32, device)
        expected = outputs(target(*args, **kwargs))
        last = [in_layout(a, True) if isinstance(a, torch.Tensor) and a.ndim == 4 else a for a in args]
        for got, e in zip(outputs(target(*last, **kwargs)), expected, strict=True):
            if got.is_floating_point():
                compare(got.cpu().double().numpy(), e.cpu().double().numpy(), "float32", case.terms)
            else:
                assert torch.equal(got, e)


@pytest.mark.parametrize(("ours", "torchs"), BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 70, 15, 20), (2, 3, 15, 20), (1, 300, 9, 8), (1, 1, 15, 20), (2, 20, 1, 1), (1, 130, 6, 70)]
)
@pytest.mark.parametrize("kernel", [3, 5, 6])  # by windows or by rows, and so many taps that are compared or more
def test_gradients(
    ours: Pooling, torchs: Pooling, dtype: torch.dtype, channels_last: bool, shape: tuple[int, ...], kernel: int
) -> None:
    x = in_layout(torch.randn(shape, generator=torch.Generator().manual_seed(0)), channels_last)
    x = x.to(dtype).requires_grad_()
    y = x.detach().double().requires_grad_()
    window = {"kernel_size": kernel, "stride": 2, "padding": kernel // 2}
    got, expected = ours(x, **window), torchs(y, **window)
    name = str(dtype).removeprefix("torch.")
    compare(got.detach().double().numpy(), expected.detach().numpy(), name, kernel**2)
    assert got.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    grad = in_layout(torch.randint(-8, 9, got.shape).to(dtype), channels_last)
    got.backward(grad)
    expected.backward(grad.double())
    compare(x.grad.double().numpy(), y.grad.numpy(), name, 4 * kernel**2)  # type: ignore[union-attr]
    assert x.grad.stride() == x.stride()  # type: ignore[union-attr]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_gradient_of_maxima_in_another_layout(channels_last: bool, kernel: int) -> None:
    x = in_layout(torch.randn(2, 70, 15, 20), channels_last).requires_grad_()
    y = x.detach().clone().requires_grad_()
    got, expected = max_pool2d(x, kernel, 2, 1), F.max_pool2d(y, kernel, 2, 1)
    assert torch.equal(got, expected)
    grad = in_layout(torch.randint(-8, 9, got.shape).float(), not channels_last)
    got.backward(grad)
    expected.backward(grad)
    assert torch.equal(x.grad, y.grad)  # type: ignore[arg-type]
    assert x.grad.stride() == x.stride()  # type: ignore[union-attr]


@pytest.mark.parametrize(("ours", "torchs"), BOTH)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
def test_planes_of_several_items_of_work(ours: Pooling, torchs: Pooling, channels_last: bool, kernel: int) -> None:
    # Rows that two items share are made by both, and gradients cross from one to the other.
    x = in_layout(torch.randn(1, 24, 301, 307), channels_last).requires_grad_()
    y = x.detach().clone().requires_grad_()
    got, expected = ours(x, kernel, 2, 1), torchs(y, kernel, 2, 1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    grad = torch.randint(-8, 9, got.shape).float()
    got.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("planes", [1, 3, 4, 5, 11])
def test_small_planes_take_turns(planes: int) -> None:
    # Gradients of four small planes at a time, and of those that are left over.
    x = torch.randn(1, planes, 20, 19, generator=torch.Generator().manual_seed(planes)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    got, expected = max_pool2d(x, 13, 1, 6), F.max_pool2d(y, 13, 1, 6)
    grad = torch.randint(-8, 9, got.shape).float()
    got.backward(grad)
    expected.backward(grad)
    assert torch.equal(x.grad, y.grad)  # type: ignore[arg-type]
