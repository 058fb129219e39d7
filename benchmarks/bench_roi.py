"""Rows of the operations on regions of interest: a detector's boxes on a map of stride 4, forward and both ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import visionops
from benchmarks.peers import TORCHVISION
from benchmarks.row import Row, Workload
from benchmarks.turns import Call
from visionops.boxes.random_boxes import scattered_boxes
from visionops.roi import reference
from visionops.testing import compare

HEIGHT, WIDTH = 800, 1344  # of the image
GATED = 8  # regions that the reference can do in a moment


class Draw(NamedTuple):
    """Maps (1, C, H, W), finest first, and boxes (K, 5)."""

    maps: list[Tensor]
    boxes: Tensor


def rows() -> list[Row]:
    """The rows, and the least speed-up that we ask of each; the gradient is of ones."""
    serial = partial(Row, serial=True)
    one = partial(_draw, 512, 256, levels=1)
    found = []
    for layout, label in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "NHWC")):
        draw = partial(one, layout=layout)
        found += [
            serial(f"RA-512-sr2-{label}", partial(_align, draw, 2), {"torchvision": 15}),
            serial(f"RA-512-sr2-{label}-both", partial(_align, draw, 2, both=True), {"torchvision": 25}),
            serial(f"RA-512-adaptive-{label}", partial(_align, draw, 0), {"torchvision": 15}),
            serial(f"RA-512-adaptive-{label}-both", partial(_align, draw, 0, both=True)),
            serial(f"RP-512-{label}", partial(_pool, draw), {"torchvision": 20}),
            serial(f"RP-512-{label}-both", partial(_pool, draw, both=True), {"torchvision": 10}),
            serial(f"RA-512-max-{label}", partial(_align, draw, 2, mode="max")),
            serial(f"RA-3-large-{label}", partial(_align, partial(_large, layout), 0)),
            serial(f"RA-BOX-sr2-{label}", partial(_pyramid, 1000, 2, layout), slow=True),
            serial(f"RA-BOX-adaptive-{label}", partial(_pyramid, 1000, 0, layout), slow=True),
        ]
    return [
        *found,
        serial("RA-512-sr2-NCHW-f16", partial(_align, partial(one, dtype=torch.float16), 2)),
        serial("RA-512-sr2-NCHW-bf16", partial(_align, partial(one, dtype=torch.bfloat16), 2)),
        serial("RA-MASK", partial(_align, partial(_draw, 100, 256, levels=1), 2, bins=14)),
        serial("RP-VGG", partial(_pool, partial(_draw, 300, 512, levels=1, stride=16))),
    ]


def _draw(
    count: int,
    channels: int,
    *,
    levels: int,
    stride: int = 4,
    layout: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> Draw:
    """Boxes around a few centres, of a median side of 55 pixels; for a pyramid anywhere, of every size."""
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(1, channels, HEIGHT // (stride << level), WIDTH // (stride << level), generator=generator)
        for level in range(levels)
    ]
    boxes = scattered_boxes(rng, count) if levels == 1 else _of_every_size(rng, count)
    rows = torch.nn.functional.pad(torch.from_numpy(boxes).float(), (1, 0))
    return Draw([m.to(dtype).contiguous(memory_format=layout) for m in maps], rows)


def _of_every_size(rng: np.random.Generator, count: int) -> Any:
    """As many of each scale between 24 and 700 pixels."""
    centre = rng.uniform(size=(count, 2)) * (WIDTH, HEIGHT)
    side = np.exp(rng.uniform(np.log(24), np.log(700), size=(count, 2)))
    return np.concatenate([(centre + sign * side / 2).clip(0, (WIDTH, HEIGHT)) for sign in (-1, 1)], axis=1)


def _large(layout: torch.memory_format) -> Draw:
    """Three regions of a thousand pixels."""
    boxes = torch.tensor([[0.0, 10, 10, 1010, 790], [0, 140, 0, 1140, 800], [0, 270, 20, 1270, 790]])
    return Draw(_draw(1, 256, levels=1, layout=layout).maps, boxes)


def _align(
    draw: Callable[[], Draw], sampling_ratio: int, *, bins: int = 7, mode: str = "avg", both: bool = False
) -> Workload:
    (image,), boxes = draw()
    options = (bins, 1 / 4, sampling_ratio, True)

    def ours(image: Tensor, boxes: Tensor = boxes) -> Tensor:
        return visionops.roi_align(image, boxes, *options, mode=mode)

    def theirs(image: Tensor) -> Any:
        return TORCHVISION.ops.roi_align(image, boxes, *options)

    meaning = partial(reference.roi_align, mode=mode)
    # The peer takes no maximum, and narrow maps beside narrow boxes alone.
    peers: dict[str, Callable[[Tensor], Any]] = {}
    if mode == "avg" and image.dtype == torch.float32:
        peers["torchvision"] = theirs
    return _workload(image, boxes, options, ours, meaning, peers, both)


def _pool(draw: Callable[[], Draw], *, both: bool = False) -> Workload:
    (image,), boxes = draw()
    options = (7, image.shape[2] / HEIGHT)

    def ours(image: Tensor, boxes: Tensor = boxes) -> Tensor:
        return visionops.roi_pool(image, boxes, *options)

    def theirs(image: Tensor) -> Any:
        return TORCHVISION.ops.roi_pool(image, boxes, *options)

    return _workload(image, boxes, options, ours, reference.roi_pool, {"torchvision": theirs}, both)


def _workload(
    image: Tensor,
    boxes: Tensor,
    options: tuple[Any, ...],
    ours: Callable[..., Tensor],
    meaning: Callable[..., Any],
    peers: dict[str, Callable[[Tensor], Any]],
    both: bool,
) -> Workload:
    """The call alone, or with its gradient to the map."""

    def gate(result: Tensor) -> str:
        values = ours(image, boxes[:GATED])
        expected = meaning(image.float().numpy(), boxes[:GATED].numpy(), *options)
        dtype = str(image.dtype).removeprefix("torch.")
        compare(values.double().numpy(), expected, dtype, terms=64)
        if not both:
            assert torch.equal(result[:GATED], values)
            return f"reference on {min(GATED, len(boxes))} of {len(boxes)} regions"
        # The sum is linear in the map, or while its order stays: its product with its gradient is itself.
        product = (result.double() * image.double()).sum()
        assert torch.isclose(product, ours(image).double().sum(), rtol=1e-4, atol=1.0)
        return f"reference on {min(GATED, len(boxes))} of {len(boxes)} regions; gradient by its product with the map"

    def call(function: Callable[[Tensor], Any]) -> Any:
        if not both:
            return function(image)
        leaf = image.detach().requires_grad_()
        pooled = function(leaf)
        return torch.autograd.grad(pooled, leaf, torch.ones_like(pooled))[0]

    calls: dict[str, Call] = {name: partial(call, function) for name, function in peers.items()}
    return Workload(partial(call, ours), calls, gate)


def _pyramid(count: int, sampling_ratio: int, layout: torch.memory_format) -> Workload:
    """All levels of a pyramid."""
    maps, boxes = _draw(count, 256, levels=4, layout=layout)
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    named = dict(zip("2345", maps, strict=True))

    def ours(boxes: Tensor = boxes) -> Tensor:
        return visionops.multiscale_roi_align(maps, boxes, 7, scales, sampling_ratio, False)

    def gate(result: Tensor) -> str:
        arrays = [m.numpy() for m in maps]
        expected = reference.multiscale_roi_align(arrays, boxes[:GATED].numpy(), 7, scales, sampling_ratio, False)
        compare(result[:GATED].double().numpy(), expected, "float32", terms=64)
        return f"reference on {GATED} of {count} regions"

    def torchvision() -> Any:
        module = TORCHVISION.ops.MultiScaleRoIAlign(list(named), 7, sampling_ratio)
        return module(named, [boxes[:, 1:]], [(HEIGHT, WIDTH)])

    return Workload(ours, {"torchvision": torchvision}, gate)
