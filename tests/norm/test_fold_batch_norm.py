"""fold_batch_norm: the reference's values, torch's output, gradients and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from contract import DTYPES, to_numpy
from visionops import fold_batch_norm
from visionops.norm import reference
from visionops.testing import compare

WEIGHT, CHANNELS = torch.ones(4, 3, 2, 2), torch.ones(4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [False, True])
def test_agrees_with_reference(dtype: str, affine: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DTYPES[dtype])

    weight, mean, var = drawn(6, 2, 3, 3), drawn(6), drawn(6).abs() + 0.5
    bias, gain, offset = (drawn(6), drawn(6), drawn(6)) if affine else (None, None, None)
    args = (weight, bias, mean, var, gain, offset)
    actual = fold_batch_norm(*args, 1e-3)
    expected = reference.fold_batch_norm(*(None if a is None else to_numpy(a) for a in args), 1e-3)
    for a, e in zip(actual, expected, strict=True):
        compare(to_numpy(a).astype("float64"), e, dtype)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_is_the_convolution_and_its_norm(layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*s, generator=generator) for s in ((2, 4, 6, 5), (8, 2, 3, 3)))
    weight = weight.contiguous(memory_format=layout)
    mean, gain, offset = (torch.randn(8, generator=generator) for _ in range(3))
    var = torch.rand(8, generator=generator) + 0.5
    folded = fold_batch_norm(weight, None, mean, var, gain, offset)
    assert folded[0].is_contiguous(memory_format=layout)
    expected = F.batch_norm(F.conv2d(x, weight, groups=2), mean, var, gain, offset)
    torch.testing.assert_close(F.conv2d(x, *folded, groups=2), expected, rtol=1e-5, atol=1e-5)


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(s, generator=generator, dtype=torch.float64) for s in ((3, 2, 2, 2), 3, 3, 3, 3, 3)]
    values[3] = values[3].abs() + 0.5
    assert torch.autograd.gradcheck(fold_batch_norm, [v.requires_grad_() for v in values])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fold_batch_norm(WEIGHT, CHANNELS[:3], CHANNELS, CHANNELS, None, None),
            ValueError,
            "bias: expected shape (C,) with C=4, got (3,)",
        ),
        (
            lambda: fold_batch_norm(WEIGHT, None, CHANNELS[None], CHANNELS, None, None),
            ValueError,
            "running_mean: expected shape (C,) with C=4, got (1, 4)",
        ),
        (
            lambda: fold_batch_norm(WEIGHT, None, CHANNELS, None, None, None),  # type: ignore[arg-type]
            TypeError,
            "running_var: expected a torch.Tensor, got NoneType",
        ),
        (
            lambda: fold_batch_norm(WEIGHT, None, CHANNELS, CHANNELS.int(), None, None),
            TypeError,
            "running_var: expected dtype floating, got torch.int32",
        ),
        (
            lambda: fold_batch_norm(torch.ones(()), None, CHANNELS, CHANNELS, None, None),
            ValueError,
            "weight: expected shape (C, ...), got ()",
        ),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
