"""Torch's own convolution as a backend, where oneDNN by itself is wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import visionops


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("shape", "outputs", "groups", "kernel", "stride", "padding", "dilation"),
    [
        ((1, 32, 9, 17), 32, 32, (3, 3), 1, 1, 2),
        ((1, 24, 20, 33), 8, 2, (3, 3), 1, 1, (2, 1)),
        ((3, 12, 16, 1), 16, 1, (3, 3), 2, 1, 1),
        ((3, 4, 7, 1), 12, 4, (2, 2), (1, 2), 1, 1),
        ((3, 33, 16, 4), 66, 33, (2, 5), (1, 2), 1, (2, 1)),
        ((1, 1, 16, 1), 3, 1, (5, 5), (1, 2), 2, (2, 1)),
        ((1, 24, 20, 4), 120, 24, (3, 3), (1, 2), 0, 1),
        # Windows that lie wholly in the padding: around the image and beside it.
        ((2, 6, 1, 33), 32, 2, (2, 5), 1, 1, 2),
        ((1, 1, 20, 1), 3, 1, (5, 1), 2, 1, 2),
        ((2, 12, 2, 1), 12, 12, (1, 1), (1, 2), 1, 2),
    ],
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_dilated_windows_and_thin_images(layout, dtype, shape, outputs, groups, kernel, stride, padding, dilation):
    generator = torch.Generator().manual_seed(0)

    def drawn(*sizes):
        return torch.randn(sizes, generator=generator).to(dtype)

    image = drawn(*shape).to(memory_format=layout)
    weight = drawn(outputs, shape[1] // groups, *kernel).to(memory_format=torch.channels_last)
    window = None, stride, padding, dilation, groups
    for given in (weight.double().requires_grad_(), weight.clone().requires_grad_()):
        if given.dtype == torch.float64:
            expected = F.conv2d(image.double(), given, *window)
            grad = drawn(*expected.shape).to(memory_format=layout)
            (expected_grad,) = torch.autograd.grad(expected, given, grad.double())
        else:
            result = visionops.conv2d(image, given, *window, backend="aten")
            (by_weight,) = torch.autograd.grad(result, given, grad)
    share = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    tolerance = {"rtol": 0, "atol": expected_grad.abs().max().item() * share}
    torch.testing.assert_close(result.double(), expected, **tolerance)
    torch.testing.assert_close(by_weight.double(), expected_grad, **tolerance)


def test_without_channels_torch_has_no_results():
    bias = torch.tensor([1.0, -2.0])
    result = visionops.conv2d(torch.ones(1, 0, 3, 3), torch.ones(2, 0, 2, 2), bias, activation="relu")
    assert result.shape == (1, 2, 2, 2)
    assert result[0, :, 0, 0].tolist() == [1.0, 0.0]
    assert visionops.conv2d(torch.ones(1, 2, 3, 3), torch.ones(0, 2, 2, 2)).shape == (1, 0, 2, 2)
    with pytest.raises(ValueError, match="weight: expected at least one channel"):
        visionops.conv2d(torch.ones(1, 0, 3, 3), torch.ones(2, 0, 2, 2), backend="aten")
