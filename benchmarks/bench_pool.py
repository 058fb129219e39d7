"""Rows of the pooling operations: the stem of a ResNet, halving, and its last average, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import visionops
from benchmarks import roofs
from benchmarks.row import Row, Workload
from benchmarks.turns import Call
from visionops.pool import reference
from visionops.testing import compare

STEM: dict[str, Any] = {"kernel_size": 3, "stride": 2, "padding": 1}
HALVING: dict[str, Any] = {"kernel_size": 2, "stride": 2, "padding": 0}
WIDE: dict[str, Any] = {"kernel_size": 13, "stride": 1, "padding": 6}
LAST: dict[str, Any] = {"kernel_size": 7, "stride": 7, "padding": 0}
GATED_PLANES = 4  # of all, as many as the reference can compute in a moment


def rows() -> list[Row]:
    """The rows, and the least speed-up that we ask of each."""
    stem, both = (16, 64, 112, 112), ("NCHW", "NHWC")
    asked = {"NCHW": (10.0, 1.5, 4.0), "NHWC": (1.2, 1.5, 4.0)}
    found = []
    for layout in both:
        forward, backward, spread = asked[layout]
        maxima, averages = partial(_in_training, "max_pool2d"), partial(_in_training, "avg_pool2d")
        found += [
            Row(f"POOL-stem-max-{layout}", partial(_max, stem, STEM, layout), {"torch": forward}),
            Row(f"POOL-stem-max-training-{layout}", partial(_max, stem, STEM, layout, True), {"torch": forward}),
            Row(f"POOL-stem-max-backward-{layout}", partial(_max_backward, stem, STEM, layout), {"torch": backward}),
            Row(f"POOL-stem-max-autograd-{layout}", partial(maxima, stem, STEM, layout), {"torch": backward}),
            Row(f"POOL-stem-avg-{layout}", partial(_avg, stem, STEM, layout)),
            Row(f"POOL-stem-avg-backward-{layout}", partial(_avg_backward, stem, STEM, layout), {"torch": spread}),
            Row(f"POOL-stem-avg-autograd-{layout}", partial(averages, stem, STEM, layout), {"torch": spread}),
        ]
    for layout in both:
        found += [
            Row(f"POOL-2x2-max-{layout}", partial(_max, (1, 64, 224, 224), HALVING, layout)),
            Row(f"POOL-2x2-max-backward-{layout}", partial(_max_backward, (1, 64, 224, 224), HALVING, layout)),
            Row(f"POOL-13x13-max-{layout}", partial(_max, (8, 256, 20, 20), WIDE, layout)),
            Row(f"POOL-13x13-max-backward-{layout}", partial(_max_backward, (8, 256, 20, 20), WIDE, layout)),
            Row(f"POOL-avg7-{layout}", partial(_avg, (32, 2048, 7, 7), LAST, layout)),
            Row(f"POOL-avg7-backward-{layout}", partial(_avg_backward, (32, 2048, 7, 7), LAST, layout)),
            Row(f"POOL-global-avg-{layout}", partial(_global_avg, (32, 2048, 7, 7), layout)),
            Row(f"POOL-pyramid-{layout}", partial(_pyramid, (16, 256, 13, 13), layout)),
            Row(f"POOL-one-image-max-backward-{layout}", partial(_max_backward, (1, 64, 112, 112), STEM, layout)),
        ]
    return [*found, Row("POOL-small-max", partial(_max, (1, 8, 8, 8), STEM, "NCHW"))]


def _images(shape: tuple[int, ...], layout: str) -> Tensor:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()
    return image.to(memory_format=torch.channels_last) if layout == "NHWC" else image


def _max(shape: tuple[int, ...], window: dict[str, Any], layout: str, training: bool = False) -> Workload:
    """In training a gradient will be asked for: a byte per window is kept, of torch an int64."""
    x = _images(shape, layout).requires_grad_(training)
    ours = partial(visionops.max_pool2d, x, **window)
    return Workload(
        ours,
        {"torch": partial(torch.nn.functional.max_pool2d, x, **window)},
        partial(_gate, partial(reference.max_pool2d, **window), [x.detach()], 1),
        roofs.writes(ours().nbytes),
    )


def _max_backward(shape: tuple[int, ...], window: dict[str, Any], layout: str) -> Workload:
    x = _images(shape, layout)
    output, offsets = visionops.max_pool2d_with_offsets(x, **window)
    grad = torch.randn_like(output)
    _, indices = torch.nn.functional.max_pool2d(x, **window, return_indices=True)
    lists = [[size] * 2 for size in window.values()]
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    witness = partial(reference.max_pool2d_backward, input_size=_some_of(shape), **window)
    return Workload(
        partial(visionops.max_pool2d_backward, grad, offsets, shape, **window),
        {"torch": partial(backward, grad, x, *lists, [1, 1], False, indices)},
        partial(_gate, witness, [grad, offsets], window["kernel_size"] ** 2),
        roofs.writes(x.nbytes),
    )


def _avg(shape: tuple[int, ...], window: dict[str, Any], layout: str) -> Workload:
    x = _images(shape, layout)
    ours = partial(visionops.avg_pool2d, x, **window)
    return Workload(
        ours,
        {"torch": partial(torch.nn.functional.avg_pool2d, x, **window)},
        partial(_gate, partial(reference.avg_pool2d, **window), [x], window["kernel_size"] ** 2),
        roofs.writes(ours().nbytes),
    )


def _avg_backward(shape: tuple[int, ...], window: dict[str, Any], layout: str) -> Workload:
    x = _images(shape, layout)
    grad = torch.randn_like(visionops.avg_pool2d(x, **window))
    if layout == "NHWC":
        grad = grad.contiguous(memory_format=torch.channels_last)
    lists = [[size] * 2 for size in window.values()]
    theirs: Call = partial(torch.ops.aten.avg_pool2d_backward, grad, x, *lists, False, True, None)
    witness = partial(reference.avg_pool2d_backward, input_size=_some_of(shape), **window)
    return Workload(
        partial(visionops.avg_pool2d_backward, grad, shape, **window),
        {"torch": theirs},
        partial(_gate, witness, [grad], window["kernel_size"] ** 2),
        roofs.writes(x.nbytes),
    )


def _in_training(name: str, shape: tuple[int, ...], window: dict[str, Any], layout: str) -> Workload:
    """The gradient of a loss, as autograd gives it."""
    x = _images(shape, layout).requires_grad_()
    ours, theirs = (getattr(library, name)(x, **window) for library in (visionops, torch.nn.functional))
    grad = torch.randn_like(ours)
    with torch.no_grad():
        offsets = [] if name == "avg_pool2d" else [visionops.max_pool2d_with_offsets(x, **window)[1]]
    witness = partial(getattr(reference, f"{name}_backward"), input_size=_some_of(shape), **window)
    return Workload(
        lambda: torch.autograd.grad(ours, x, grad, retain_graph=True)[0],
        {"torch": lambda: torch.autograd.grad(theirs, x, grad, retain_graph=True)[0]},
        partial(_gate, witness, [grad, *offsets], window["kernel_size"] ** 2),
        roofs.writes(x.nbytes),
    )


def _global_avg(shape: tuple[int, ...], layout: str) -> Workload:
    x = _images(shape, layout)
    return Workload(
        partial(visionops.global_avg_pool2d, x),
        {"torch": partial(torch.nn.functional.adaptive_avg_pool2d, x, 1)},
        partial(_gate, reference.global_avg_pool2d, [x], shape[-2] * shape[-1]),
    )


def _pyramid(shape: tuple[int, ...], layout: str) -> Workload:
    """The three levels of spatial pyramid pooling."""
    x = _images(shape, layout)
    pooled = torch.nn.functional.adaptive_max_pool2d
    return Workload(
        partial(visionops.spatial_pyramid_pool, x),
        {"torch": lambda: torch.cat([pooled(x, level).flatten(1) for level in (1, 2, 4)], 1)},
        partial(_gate_of_pyramid, x),
    )


def _some_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, min(GATED_PLANES, shape[1]), *shape[2:])


def _gate(witness: Callable[..., Any], inputs: list[Tensor], terms: int, result: Tensor) -> str:
    """The last image's first planes."""
    some = [t[-1:, :GATED_PLANES].contiguous().numpy() for t in inputs]
    compare(result.detach()[-1:, :GATED_PLANES].double().numpy(), witness(*some), "float32", terms)
    planes = result.shape[0] * result.shape[1]
    return f"reference on {GATED_PLANES} of {planes:,} planes"


def _gate_of_pyramid(x: Tensor, result: Tensor) -> str:
    np.testing.assert_array_equal(result[-1:].numpy(), reference.spatial_pyramid_pool(x[-1:].contiguous().numpy()))
    return f"reference on 1 of {len(x)} images"
