"""What only multiscale_roi_align and the modules do: levels, gradients to every map, memory formats, scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from visionops import multiscale_roi_align, nn, roi_align, roi_pool
from visionops.roi import cases

SCALES = [0.25, 0.125, 0.0625]


def pyramid(layout: torch.memory_format = torch.contiguous_format, channels: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, 32 >> level, 48 >> level, generator=generator, dtype=torch.float64).contiguous(
            memory_format=layout
        )
        for level in range(3)
    ]


def boxes() -> Tensor:
    rng = np.random.default_rng(0)
    parts = [cases.random_rois(rng, 8, 2, 128, 192, most=most) for most in (0.3, 1.0, 4.0)]
    return torch.from_numpy(np.concatenate(parts))


def one_by_one(maps: list[Tensor], rois: Tensor, *options: Any) -> Tensor:
    """As torchvision does it: the boxes of each level apart."""
    area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    levels = (4 + torch.log2(area.sqrt() / 224)).floor().clamp(2, 4).long() - 2
    out = maps[0].new_zeros(len(rois), maps[0].shape[1], 3, 3)
    for level, (of_level, scale) in enumerate(zip(maps, SCALES, strict=True)):
        at = levels == level
        out = out.index_put((at,), roi_align(of_level, rois[at], 3, scale, *options))
    assert levels.unique().tolist() == [0, 1, 2]
    return out


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_levels_and_gradients_are_those_of_each_level_apart(layout: torch.memory_format, sampling_ratio: int) -> None:
    maps = [m.requires_grad_() for m in pyramid(layout)]
    together = multiscale_roi_align(maps, boxes(), 3, SCALES, sampling_ratio)
    apart = one_by_one(maps, boxes(), sampling_ratio, True)
    torch.testing.assert_close(together, apart, rtol=0, atol=0)
    assert together.is_contiguous(memory_format=layout)
    grad = torch.randn(together.shape, dtype=torch.float64)
    for got, expected, of_level in zip(
        torch.autograd.grad(together, maps, grad), torch.autograd.grad(apart, maps, grad), maps, strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
        assert got.stride() == of_level.stride()


def test_memory_formats_may_differ() -> None:
    first, last = pyramid(), pyramid(torch.channels_last)
    expected = multiscale_roi_align(first, boxes(), 3, SCALES)
    for mixed in ([first[0], last[1], first[2]], [last[0], first[1], last[2]]):
        torch.testing.assert_close(multiscale_roi_align(mixed, boxes(), 3, SCALES), expected)
    # A map of one pixel is in both formats.
    tall = [last[0], last[1], last[2][:, :, :1, :1].contiguous()]
    assert multiscale_roi_align(tall, boxes(), 3, SCALES).is_contiguous(memory_format=torch.channels_last)


def test_gradcheck_twice_and_vmap() -> None:
    maps = [m[:, :2, :8, :9].contiguous().requires_grad_() for m in pyramid()]
    rois = torch.cat([boxes()[:2], boxes()[-2:]])

    def call(*maps: Tensor) -> Tensor:
        return multiscale_roi_align(list(maps), rois, 2, SCALES)

    assert torch.autograd.gradcheck(call, tuple(maps))
    assert torch.autograd.gradgradcheck(call, tuple(maps))
    batch = [torch.stack([m.detach(), 2 * m.detach()]) for m in maps]
    doubled = torch.func.vmap(call)(*batch)
    torch.testing.assert_close(doubled[1], 2 * call(*maps))
    grads = torch.func.vmap(torch.func.grad(lambda *m: call(*m).pow(2).sum(), argnums=(0, 1, 2)))(*batch)
    for got, expected in zip(grads, torch.autograd.grad(call(*maps).pow(2).sum(), maps), strict=True):
        torch.testing.assert_close(got[0], expected)
    both = torch.func.vmap(lambda m, b: multiscale_roi_align([m], b, 2, [0.25]))(batch[0], torch.stack([rois, rois]))
    torch.testing.assert_close(both[1], multiscale_roi_align([batch[0][1]], rois, 2, [0.25]))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's own, in tracing any autograd.Function
def test_its_gradient_compiles_fullgraph() -> None:
    rois = boxes()

    def call(*maps: Tensor) -> Tensor:
        return multiscale_roi_align(list(maps), rois, 3, SCALES).pow(2).sum()

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    maps = [m.requires_grad_() for m in pyramid()]
    for got, expected in zip(
        torch.autograd.grad(compiled(*maps), maps), torch.autograd.grad(call(*maps), maps), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_gradients_do_not_depend_on_threads() -> None:
    maps, threads, results = [m.float().requires_grad_() for m in pyramid(channels=40)], torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            results.append(torch.autograd.grad(multiscale_roi_align(maps, boxes(), 7, SCALES).sum(), maps))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


MAPS, ROW = [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4)], torch.zeros(1, 5)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((MAPS[0], ROW, 2, [1.0]), TypeError, "inputs: expected a list of tensors, got Tensor"),
        (([], ROW, 2, []), ValueError, "inputs: expected one or more tensors, got none"),
        (([MAPS[0], MAPS[1][0]], ROW, 2, [1, 1]), ValueError, r"inputs\[1\]: expected shape \(B, C, H, W\)"),
        (([MAPS[0], MAPS[1][:, :2]], ROW, 2, [1, 1]), ValueError, r"inputs\[1\]: expected as many as inputs\[0\], 3"),
        (([MAPS[0], MAPS[1].double()], ROW, 2, [1, 1]), TypeError, r"inputs\[1\]: expected dtype torch.float32 as"),
        ((MAPS, ROW, 2, 1.0), TypeError, "spatial_scales: expected a number for each map, got float"),
        ((MAPS, ROW, 2, [1.0]), ValueError, "spatial_scales: expected as many as inputs, 2, got 1"),
        ((MAPS, ROW, 2, [1.0, None]), TypeError, "spatial_scales: expected a number, got NoneType"),
        ((MAPS, [], 2, [1.0, 1.0]), ValueError, "boxes: expected one tensor per image, B=1, got 0"),
    ],
)
def test_messages(args: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        multiscale_roi_align(*args)


def test_what_the_torch_operation_asserts() -> None:
    op, last = torch.ops.visionops.multiscale_roi_align_native, MAPS[1].contiguous(memory_format=torch.channels_last)
    for maps, scales in (
        ([], []),
        (MAPS, [1.0]),
        ([MAPS[0], last], [1.0, 1.0]),
        ([MAPS[0], MAPS[1].half()], [1.0, 1.0]),
    ):
        with pytest.raises(ValueError, match="inputs: expected"):
            op(maps, ROW, 2, 2, scales, 2, True, 224, 4, 2)


def test_modules_are_their_functions() -> None:
    image, rois = pyramid()[0], boxes()
    assert torch.equal(nn.RoIPool(3, 0.25)(image, rois), roi_pool(image, rois, 3, 0.25))
    assert torch.equal(nn.RoIAlign((3, 2), 0.25, 2)(image, rois), roi_align(image, rois, (3, 2), 0.25, 2))
    aligned = nn.RoIAlign(3, 0.25, -1, True, mode="max")
    assert torch.equal(aligned(image, rois), roi_align(image, rois, 3, 0.25, -1, True, mode="max"))
    assert repr(aligned) == ("RoIAlign(output_size=3, spatial_scale=0.25, sampling_ratio=-1, aligned=True, mode='max')")
    assert repr(nn.RoIPool(3, 0.25)) == "RoIPool(output_size=3, spatial_scale=0.25)"


def test_the_pyramid_s_module_reads_scales_off_each_call() -> None:
    names, rois = ["p2", "p3", "p4"], boxes()
    module = nn.MultiScaleRoIAlign(names, 3, 2)
    assert repr(module) == (
        "MultiScaleRoIAlign(featmap_names=['p2', 'p3', 'p4'], output_size=3, sampling_ratio=2, aligned=False)"
    )
    for scale in (1, 2):
        maps = dict(zip(names, pyramid(), strict=True)) | {"pool": torch.zeros(1)}
        expected = multiscale_roi_align(
            pyramid(), rois, 3, [s / scale for s in SCALES], 2, False, min_level=2 + scale // 2
        )
        # Images of twice the size in the second call: nothing of the first is remembered.
        assert torch.equal(module(maps, rois, [(100 * scale, 192 * scale), (128 * scale, 20)]), expected)
    explicit = nn.MultiScaleRoIAlign(names, 3, 2, aligned=True, spatial_scales=SCALES)
    assert torch.equal(explicit(maps, rois), multiscale_roi_align(pyramid(), rois, 3, SCALES))
    with pytest.raises(ValueError, match="image_shapes: expected one"):
        module(maps, rois)
    for scale, got in ((0, "0"), (-1, "-1"), (float("inf"), "inf")):
        with pytest.raises(ValueError, match=f"spatial_scales: expected a finite number above 0, got {got}"):
            nn.MultiScaleRoIAlign(names, 3, 2, spatial_scales=[1, scale])
    with pytest.raises(TypeError, match=r"image_shapes: expected \(height, width\), got 128"):
        module(maps, rois, (128, 192))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x, image_shapes: expected maps and images of at least a row, got one of 0"):
        module(maps, rois, [(0, 192)])
    with pytest.raises(ValueError, match="x: expected a map of one of featmap_names, got none"):
        nn.MultiScaleRoIAlign(["other"], 3, 2)(maps, rois, [(128, 192)])


def test_boxes_that_ask_for_a_gradient_have_none() -> None:
    rois = boxes().requires_grad_()
    out = multiscale_roi_align(pyramid(), rois, 3, SCALES)
    assert not out.requires_grad
    maps = [of_level.requires_grad_() for of_level in pyramid()]
    multiscale_roi_align(maps, rois, 3, SCALES).sum().backward()
    assert rois.grad is None


def test_a_level_far_away() -> None:
    maps = [torch.full((1, 1, 8, 8), 2.0), torch.full((1, 1, 4, 4), 3.0)]
    box = torch.tensor([[0.0, 0, 0, 7, 7]])
    for level, expected in ((2000, 3), (1 << 31, 3), ((1 << 63) - 1, 3), (-(1 << 40), 2)):
        assert multiscale_roi_align(maps, box, 1, [1, 0.5], canonical_level=level).item() == expected
