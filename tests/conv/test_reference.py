"""The convolution references against second witnesses: torch in float64, and values worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visionops.conv import cases
from visionops.conv import reference as ref
from visionops.testing import Case

ACTIVATE: dict[str | None, Any] = {
    None: lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}


def _torchs(case: Case) -> list[Any]:
    return [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in case.args]


def _check(actual: Any, expected: torch.Tensor) -> None:
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", cases.im2col(), ids=lambda case: case.name)
def test_im2col(case: Case) -> None:
    if case.args[0].size:  # torch has no windows over nothing
        _check(ref.im2col(*case.args), F.unfold(*_torchs(case)))


@pytest.mark.parametrize("case", cases.col2im(), ids=lambda case: case.name)
def test_col2im(case: Case) -> None:
    if case.args[0].size and 0 not in case.args[1]:
        _check(ref.col2im(*case.args), F.fold(*_torchs(case)))


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's own: it copies the input
@pytest.mark.parametrize("case", cases.conv2d(), ids=lambda case: case.name)
def test_conv2d(case: Case) -> None:
    expected = ACTIVATE[case.kwargs.get("activation")](F.conv2d(*_torchs(case)))
    _check(ref.conv2d(*case.args, **case.kwargs), expected)


@pytest.mark.parametrize("case", cases.conv_transpose2d(), ids=lambda case: case.name)
def test_conv_transpose2d(case: Case) -> None:
    _check(ref.conv_transpose2d(*case.args), F.conv_transpose2d(*_torchs(case)))


def test_a_column_is_a_window_read_by_channel_and_row() -> None:
    image = np.arange(18.0).reshape(1, 2, 3, 3)
    columns = ref.im2col(image, 2)
    assert columns[0, :, 1].tolist() == [1, 2, 4, 5, 10, 11, 13, 14]


def test_a_filter_is_not_turned() -> None:
    image = np.zeros((1, 1, 3, 3))
    image[0, 0, 1, 1] = 1
    filters = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert ref.conv2d(image, filters, padding=1)[0, 0].tolist() == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]
    assert ref.conv_transpose2d(image, filters, padding=1)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
