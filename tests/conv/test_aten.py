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
        ((2, 4, 2, 5), 8, 1, (2, 1), 1, (2, 0), (5, 1)),
        # More of a window than half in the padding.
        ((1, 128, 16, 6), 64, 4, (5, 5), (4, 7), (2, 3), 1),
        ((1, 4, 2, 3), 8, 1, (1, 3), (3, 4), (0, 2), 1),
        ((1, 2, 13, 2), 2, 1, (7, 2), (1, 6), (0, 3), (1, 2)),
        ((1, 1, 17, 3), 16, 1, (6, 2), (2, 7), (1, 2), 1),
        ((1, 128, 10, 12), 8, 4, (4, 5), 7, (4, 3), (3, 1)),
        # Dilated, with a stride and much padding.
        ((2, 8, 9, 33), 3, 1, (2, 7), (5, 2), (0, 28), (1, 5)),
        ((1, 16, 3, 65), 12, 4, (2, 7), (1, 2), (0, 15), (1, 5)),
        ((1, 16, 61, 178), 2, 1, (3, 8), (3, 5), (1, 21), (1, 3)),
        # Few channels under wide windows.
        ((1, 8, 6, 29), 4, 1, (2, 8), 1, 0, 1),
        ((1, 16, 12, 28), 5, 1, (3, 4), 4, 0, 1),
    ],
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_windows_that_onednn_misreads(layout, dtype, shape, outputs, groups, kernel, stride, padding, dilation):
    generator = torch.Generator().manual_seed(0)

    def drawn(*sizes):
        return torch.randn(sizes, generator=generator).to(dtype)

    image = drawn(*shape).to(memory_format=layout)
    weight = drawn(outputs, shape[1] // groups, *kernel).to(memory_format=torch.channels_last)
    window = None, stride, padding, dilation, groups
    wide = [tensor.double().requires_grad_() for tensor in (image, weight)]
    given = [tensor.requires_grad_() for tensor in (image, weight)]
    expected = F.conv2d(*wide, *window)
    grad = drawn(*expected.shape).to(memory_format=layout)
    result = visionops.conv2d(*given, *window, backend="aten")
    share = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    found = (result, *torch.autograd.grad(result, given, grad))
    for got, value in zip(found, (expected, *torch.autograd.grad(expected, wide, grad.double())), strict=True):
        torch.testing.assert_close(got.double(), value, rtol=0, atol=max(value.abs().max().item(), 1) * share)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "output_padding", "dilation"),
    [
        ((1, 2, 1, 1), (1, 1), (1, 2), (0, 2), (0, 4), (1, 5)),
        ((1, 2, 1, 1), (1, 1), (5, 1), (2, 0), (4, 0), 1),
        ((2, 2, 1, 2), (2, 2), 1, (1, 0), 0, (3, 1)),
        ((2, 2, 2, 3), (2, 4), (1, 4), (1, 0), 0, 1),
    ],
)
def test_transposed_windows_that_torch_cuts_off(dtype, shape, kernel, stride, padding, output_padding, dilation):
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(sizes, generator=generator).to(dtype).requires_grad_() for sizes in (shape, (2, 16, *kernel))]
    wide = [tensor.detach().double().requires_grad_() for tensor in given]
    window = None, stride, padding, output_padding, 1, dilation
    expected, result = F.conv_transpose2d(*wide, *window), visionops.conv_transpose2d(*given, *window, backend="aten")
    grad = torch.randn(expected.shape, generator=generator).to(dtype)
    found = (result, *torch.autograd.grad(result, given, grad))
    for got, value in zip(found, (expected, *torch.autograd.grad(expected, wide, grad.double())), strict=True):
        torch.testing.assert_close(got.double(), value, rtol=0, atol=max(value.abs().max().item(), 1) * 2e-2)


def test_without_channels_torch_has_no_results():
    bias = torch.tensor([1.0, -2.0])
    result = visionops.conv2d(torch.ones(1, 0, 3, 3), torch.ones(2, 0, 2, 2), bias, activation="relu")
    assert result.shape == (1, 2, 2, 2)
    assert result[0, :, 0, 0].tolist() == [1.0, 0.0]
    assert visionops.conv2d(torch.ones(1, 2, 3, 3), torch.ones(0, 2, 2, 2)).shape == (1, 0, 2, 2)
    with pytest.raises(ValueError, match="weight: expected at least one channel"):
        visionops.conv2d(torch.ones(1, 0, 3, 3), torch.ones(2, 0, 2, 2), backend="aten")
    assert visionops.conv_transpose2d(torch.ones(1, 2, 3, 3), torch.ones(2, 0, 2, 2)).shape == (1, 0, 4, 4)
    with pytest.raises(ValueError, match="weight: expected at least one channel"):
        visionops.conv_transpose2d(torch.ones(1, 2, 3, 3), torch.ones(2, 0, 2, 2), backend="aten")
