"""Every operation under torch's compilers: inductor, export and AOTInductor, with the results of eager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import visionops
from contract import first_smooth, outputs, tensors
from visionops import (
    batched_nms,
    box_iou,
    fast_nms,
    mask_matrix_nms,
    matrix_nms,
    multiscale_roi_align,
    nms,
    roi_align,
    roi_pool,
    soft_nms,
)
from visionops._op import REGISTRY

pytestmark = [
    pytest.mark.slow,
    # What torch's compilers warn of in themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Call(torch.nn.Module):
    """A public operation with its plain arguments bound; what is left are tensors."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.public = REGISTRY[name]
        args, self.options = tensors(first_smooth(self.public), torch.float32)
        self.inputs = tuple(a for a in args if isinstance(a, torch.Tensor) or _is_list_of_tensors(a))
        self.rest = args[len(self.inputs) :]
        assert not any(isinstance(a, torch.Tensor) for a in self.rest)

    def forward(self, *inputs: Any) -> Any:
        return self.public.function(*inputs, *self.rest, **self.options)


def _is_list_of_tensors(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(part, torch.Tensor) for part in value)


class Detect(torch.nn.Module):
    """The tail of a detector: sizes that depend on values, used by further operations."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor) -> Any:
        keep = batched_nms(boxes, scores, classes, 0.5, score_threshold=0.2)
        best = boxes[nms(boxes, scores, 0.5, max_output=3)]
        return keep, box_iou(boxes[keep] * 2, best, mode="giou"), nms(boxes, scores, 0.5, max_output=9, padded=True)


class Head(torch.nn.Module):
    """A detector's second stage: regions of a map for the boxes that are left, as many as values decide."""

    def forward(self, image: torch.Tensor, boxes: torch.Tensor, scores: torch.Tensor) -> Any:
        found = boxes[nms(boxes, scores, 0.5, score_threshold=0.5)]
        rows = torch.nn.functional.pad(found, (1, 0))
        pyramid = [image, torch.nn.functional.avg_pool2d(image, 2)]
        return (
            roi_align(image, [found], 7, 0.5, 2, True),
            roi_align(image, rows, 3, 0.5, mode="max"),
            roi_pool(image, rows, 7, 0.5),
            multiscale_roi_align(pyramid, rows, 7, [0.5, 0.25], canonical_size=20),
        )


class Rescore(torch.nn.Module):
    """Each padded form of the suppressions that lower scores, and of fast NMS."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, masks: torch.Tensor) -> Any:
        return (
            *soft_nms(boxes, scores, classes, max_output=9, padded=True),
            *soft_nms(boxes, scores, method="gaussian", max_output=9, padded=True),
            *matrix_nms(boxes, scores, classes, max_output=9, padded=True),
            *mask_matrix_nms(masks, scores, kernel="linear", max_output=9, padded=True),
            *fast_nms(boxes, scores, classes, max_output=9, padded=True),
        )


class Suppress(torch.nn.Module):
    """Suppression alone: inductor refuses to index an empty tensor, with whatever indices."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor) -> Any:
        kept = batched_nms(boxes, scores, classes, 0.5), nms(boxes, scores, 0.5)
        return *kept, *batched_nms(boxes, scores, classes, 0.5, max_output=9, padded=True)


def check(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path) -> None:
    expected = outputs(module(*inputs))
    torch._dynamo.reset()
    exported = torch.export.export(module, inputs)
    torch.export.save(exported, folder / "exported.pt2")
    package = torch._inductor.aoti_compile_and_package(exported, package_path=str(folder / "compiled.pt2"))
    programs = [
        torch.compile(module, fullgraph=True),
        torch.export.load(folder / "exported.pt2").module(),
        torch._inductor.aoti_load_package(package),
    ]
    for program in programs:
        torch.testing.assert_close(outputs(program(*inputs)), expected)


@pytest.mark.parametrize("name", [name for name in visionops.__all__ if name in REGISTRY])
def test_each_operation(name: str, tmp_path: Path) -> None:
    call = Call(name)
    check(call, call.inputs, tmp_path)


@pytest.mark.parametrize("n", [1, 5000])
def test_the_tail_of_a_detector(n: int, tmp_path: Path) -> None:
    boxes, scores = torch.rand(n, 4) * 50, torch.rand(n)
    boxes[:, 2:] += boxes[:, :2]
    check(Detect(), (boxes, scores, torch.arange(n) % 7), tmp_path)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_the_head_of_a_detector(kept: int, layout: torch.memory_format, tmp_path: Path) -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [20, 0, 40, 30], [1, 25, 18, 40], [0, 1, 20, 19]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6]) - 0.5 * (torch.arange(4) >= kept)
    image = torch.randn(1, 5, 20, 24).contiguous(memory_format=layout)
    check(Head(), (image, boxes, scores), tmp_path)
    assert Head()(image, boxes, scores)[0].shape[0] == kept


def test_no_boxes(tmp_path: Path) -> None:
    check(Suppress(), (torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64)), tmp_path)


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_padded_rescoring(n: int, tmp_path: Path) -> None:
    boxes, scores = torch.rand(n, 4) * 50, torch.rand(n)
    boxes[:, 2:] += boxes[:, :2]
    check(Rescore(), (boxes, scores, torch.arange(n) % 7, torch.rand(n, 6, 7) < 0.5), tmp_path)
