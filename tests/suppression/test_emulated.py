"""The CUDA kernels of suppression on an emulated GPU: images, classes, chunks, and barriers that are all needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from barriers import barriers_of, check_needed
from visionops import batched_nms, nms, soft_nms
from visionops.boxes.random_boxes import clustered_boxes, scattered_boxes, uniform_boxes
from visionops.suppression.nms import NMS

pytestmark = pytest.mark.skipif(
    "emulated" not in [backend.name for backend in NMS.backends], reason="VISIONOPS_EMULATION names no library"
)
# More boxes than an emulated block has threads (96), and than a chunk has boxes (384).
SIZES = (0, 1, 31, 97, 500, 1300)


def images(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(n)
    boxes = np.stack([generate(rng, n) for generate in (uniform_boxes, clustered_boxes, scattered_boxes)])
    scores, classes = rng.uniform(size=(3, n)), rng.integers(-1, 2, (3, n))
    scores[1, ::7] = np.nan
    scores[2] = scores[2].round(1)
    return torch.from_numpy(boxes).to(dtype), torch.from_numpy(scores).to(dtype), torch.from_numpy(classes)


def results(backend: str, n: int, max_output: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    boxes, scores, classes = images(n, dtype)
    options: dict[str, Any] = {"score_threshold": 0.1, "max_output": max_output, "backend": backend}
    return [
        *nms(boxes, scores, 0.6, padded=True, **options),
        *batched_nms(boxes, scores, classes, 0.6, padded=True, **options),
        *soft_nms(boxes, scores, padded=True, **(options | {"max_output": min(max_output, 60)})),
        *soft_nms(boxes, scores, classes, method="gaussian", padded=True, **(options | {"score_threshold": 0.4})),
        nms(boxes[0], scores[0], 0.9, **options),
        batched_nms(boxes[1], scores[1], classes[1], 0.6, backend=backend),
    ]


def agree(n: int, max_output: int, dtype: torch.dtype = torch.float32) -> bool:
    pairs = zip(results("emulated", n, max_output, dtype), results("native", n, max_output, dtype), strict=True)
    return all(torch.equal(emulated, native) for emulated, native in pairs)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("max_output", [0, 1, 100, 2000])
def test_images_and_classes(n: int, max_output: int) -> None:
    for seed in range(3):
        torch.ops.visionops.emulation_seed(seed)
        assert agree(n, max_output), f"seed {seed}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes(dtype: torch.dtype) -> None:
    torch.ops.visionops.emulation_seed(0)
    assert agree(500, 600, dtype)


def test_no_images() -> None:
    indices, counts = nms(torch.empty(0, 5, 4), torch.empty(0, 5), 0.5, max_output=3, padded=True, backend="emulated")
    assert indices.shape == (0, 3)
    assert counts.shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "line"), barriers_of("suppression"))
def test_every_barrier_is_needed(file: str, line: int) -> None:
    check_needed(file, line, "from suppression.test_emulated import agree", "agree(1300, 2000)")
