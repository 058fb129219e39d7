"""Regions of interest on a GPU, forward and both ways, beside torchvision's kernels, a launch for each level."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import visionops
from benchmarks.gpu_rows import GpuRow
from benchmarks.peers import TORCHVISION
from visionops.boxes.random_boxes import scattered_boxes

HEIGHT, WIDTH = 800, 1344  # of the image
SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
Call = Callable[..., Tensor]


def rows(scale: int) -> list[GpuRow]:
    """One map of stride 4, then a pyramid; numbers of regions and channels are divided by `scale`."""
    found = []
    for layout, label in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "NHWC")):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            inputs = [*_maps(256 // min(scale, 16), 1, layout, dtype), _boxes(512 // scale)]
            name = f"{label}-{str(dtype).removeprefix('torch.')}"
            # The peers' gradients of narrow maps are sums of narrow numbers; ours are not.
            tolerance = 1e-4 if dtype == torch.float32 else 2e-2
            for row, ours, peer in _of_one_map():
                peers: dict[str, Callable[..., Any]] = {}
                if peer is not None and dtype != torch.bfloat16:
                    peers["torchvision"] = peer
                found.append(GpuRow(f"{row}-{name}", ours, peers, inputs, tolerance))
                both: dict[str, Callable[..., Any]] = {key: partial(_both, call) for key, call in peers.items()}
                found.append(GpuRow(f"{row}-{name}-both", partial(_both, ours), both, inputs, tolerance))
                gathered = partial(_deterministic, partial(_both, ours))
                found.append(GpuRow(f"{row}-{name}-both-deterministic", gathered, {}, inputs, tolerance))
        maps = _maps(256 // min(scale, 16), 4, layout, torch.float32)
        for samples in (2, 0):
            ours = partial(_pyramid, samples)
            peers = {} if TORCHVISION is None else {"torchvision": partial(_torchvision_pyramid, samples)}
            inputs = [*maps, _boxes(1000 // scale)]
            found.append(GpuRow(f"RA-BOX-{samples or 'adaptive'}-{label}", ours, peers, inputs, 1e-4))
    return found


def _of_one_map() -> list[tuple[str, Call, Call | None]]:
    def align(of: Any, samples: int, **named: Any) -> Call:
        return lambda image, boxes: of(image, _like(boxes, image, of), 7, 1 / 4, samples, True, **named)

    def pool(of: Any) -> Call:
        return lambda image, boxes: of(image, _like(boxes, image, of), 7, 1 / 4)

    peer = None if TORCHVISION is None else TORCHVISION.ops
    return [
        ("RA-512-sr2", align(visionops.roi_align, 2), align(peer.roi_align, 2) if peer else None),
        ("RA-512-adaptive", align(visionops.roi_align, 0), align(peer.roi_align, -1) if peer else None),
        ("RA-512-max", align(visionops.roi_align, 2, mode="max"), None),
        ("RP-512", pool(visionops.roi_pool), pool(peer.roi_pool) if peer else None),
    ]


def _like(boxes: Tensor, image: Tensor, of: Any) -> Tensor:
    # The peers want both of one dtype.
    return boxes if of in (visionops.roi_align, visionops.roi_pool) else boxes.to(image.dtype)


def _both(call: Call, image: Tensor, boxes: Tensor) -> Tensor:
    leaf = image.detach().requires_grad_()
    result = call(leaf, boxes)
    return torch.autograd.grad(result, leaf, torch.ones_like(result))[0]


def _deterministic(call: Call, *inputs: Tensor) -> Tensor:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        return call(*inputs)
    finally:
        torch.use_deterministic_algorithms(before)


def _pyramid(samples: int, *inputs: Tensor) -> Tensor:
    *maps, boxes = inputs
    return visionops.multiscale_roi_align(maps, boxes, 7, SCALES, samples, False)


def _torchvision_pyramid(samples: int, *inputs: Tensor) -> Any:
    *maps, boxes = inputs
    named = dict(zip("2345", maps, strict=True))
    module = TORCHVISION.ops.MultiScaleRoIAlign(list(named), 7, samples)
    return module(named, [boxes[:, 1:]], [(HEIGHT, WIDTH)])


def _maps(channels: int, levels: int, layout: torch.memory_format, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, channels, HEIGHT >> level + 2, WIDTH >> level + 2) for level in range(levels)]
    return [torch.randn(size, generator=generator).to(dtype).contiguous(memory_format=layout) for size in sizes]


def _boxes(count: int) -> Tensor:
    boxes = torch.from_numpy(scattered_boxes(np.random.default_rng(0), count)).float()
    return torch.nn.functional.pad(boxes, (1, 0))
