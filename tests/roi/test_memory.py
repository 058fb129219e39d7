"""What roi_align and roi_pool need of memory, and maps that 32-bit offsets do not reach."""

from __future__ import annotations

import pytest
import torch

from fresh import printed
from visionops import roi_align, roi_pool


@pytest.mark.measured
@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
def test_needs_its_result_and_gradient_alone(layout: str) -> None:
    code = (
        f"x = torch.randn(1, 256, 200, 272).contiguous(memory_format=torch.{layout}).requires_grad_()\n"
        "b = torch.rand(512, 5) * 400; b[:, 0] = 0; b[:, 3:] += b[:, 1:3]\n"
        f"g = torch.randn(512, 256, 7, 7).contiguous(memory_format=torch.{layout})\n"
        "small = torch.randn(1, 2, 8, 8, requires_grad=True)\n"
        # Given a gradient, torch imports a module the first time.
        "vo.roi_align(small, b[:2], 7, .01).backward(g[:2, :2]); before = peak()\n"
        "vo.roi_align(x, b, 7, .25, 0).backward(g); print(peak() - before)"
    )
    needed = (512 * 256 * 49 + 256 * 200 * 272) * 4 / 2**20
    assert float(printed(code)) < 1.1 * needed


@pytest.mark.large
@pytest.mark.parametrize("size", [(1, 46_400, 46_400), (2, 46_400, 23_200)])
def test_a_map_above_two_to_the_31_elements(size: tuple[int, int, int]) -> None:
    # 4.3 GB of float16, all 0 but for a corner that only 64-bit offsets reach.
    channels, height, width = size
    layout = torch.contiguous_format if channels == 1 else torch.channels_last
    image = torch.zeros(1, *size, dtype=torch.float16).contiguous(memory_format=layout)
    image[..., height - 9 :, width - 9 :] = 3
    boxes = torch.tensor([[0.0, width - 8, height - 8, width - 2, height - 2], [0, 0, 0, 8, 8]])
    image.requires_grad_()
    for call in (
        lambda x, b: roi_align(x, b, 2),
        lambda x, b: roi_align(x, b, 2, mode="max"),
        lambda x, b: roi_pool(x, b, 2),
    ):
        result = call(image, boxes)
        assert (result[0] == 3).all()
        assert (result[1] == 0).all()
        (grad,) = torch.autograd.grad(result.sum(), image)
        corner = grad[..., height - 9 :, width - 9 :].double().sum().item()
        assert corner == pytest.approx(4 * channels, rel=0.01)
        del grad
