"""What only roi_pool keeps for its gradient: where the maxima stand, of the first of equal ones, and of any numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from contract import DTYPES, to_numpy
from drawn_rois import drawn, last
from visionops import roi_pool
from visionops.roi import cases, reference
from visionops.roi.roi_pool import ROI_POOL_BACKWARD, ROI_POOL_WITH_ARGMAX
from visionops.testing import Case

BACKENDS = [backend.name for backend in ROI_POOL_WITH_ARGMAX.backends]
LAYOUTS = {"first": torch.Tensor.contiguous, "last": last}


def check_argmax(backend: str, image: Tensor, boxes: Tensor, bins: tuple[int, int], scale: float) -> None:
    output, argmax = ROI_POOL_WITH_ARGMAX(image, boxes, *bins, scale, backend=backend)
    expected = reference.roi_pool_argmax(to_numpy(image), to_numpy(boxes), bins, scale)
    assert torch.equal(argmax, torch.from_numpy(expected).int())
    assert argmax.stride() == output.stride()
    torch.testing.assert_close(output, roi_pool(image, boxes, bins, scale), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("case", cases.roi_pool(), ids=lambda case: case.name)
def test_argmax_agrees_with_the_reference(case: Case, dtype: torch.dtype, layout: str, backend: str) -> None:
    image, boxes, output_size, *scale = case.args
    bins = output_size if isinstance(output_size, tuple) else (output_size,) * 2
    image = LAYOUTS[layout](torch.from_numpy(image).to(dtype))
    check_argmax(backend, image, torch.from_numpy(boxes).float(), bins, *scale or [1.0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [13, 40, 150])
def test_of_equal_ones_it_is_the_first(width: int, layout: str, backend: str) -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 3, (2, 20, 30, width)).astype(np.float32))
    image[0, 3] = 0
    image[1, 4, ::3, ::5] = torch.nan
    boxes = torch.from_numpy(np.concatenate([cases.random_rois(rng, 12, 2, 30, width), cases.ACROSS]))
    for bins in ((7, 7), (3, 20)):
        check_argmax(backend, LAYOUTS[layout](image), boxes, bins, 1.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_an_argmax_of_any_numbers_stays_on_the_map(deterministic: bool, layout: str, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(-(2**31), 2**31, (3, 5, 2, 2), generator=generator).int()
    numbers[0, 0] = torch.tensor([[27, 64], [-1, -64]])
    boxes = torch.tensor([[0.0, 0, 0, 7, 7]] * 3)
    grad = torch.ones(3, 5, 2, 2)
    found = ROI_POOL_BACKWARD(grad, LAYOUTS[layout](numbers), boxes, 1, 8, 8, 1.0, deterministic, backend=backend)
    assert found.sum() == found[0, 0, 3, 3] == 1


def test_the_map_is_not_kept_for_the_gradient() -> None:
    image = drawn(1, 2, 9, 13).requires_grad_()
    result = roi_pool(image, torch.tensor([[0.0, 1, 1, 8, 8]]), 2)
    kept = [tensor.shape for tensor in result.grad_fn.saved_tensors]
    assert image.shape not in kept
