"""Rows of the suppression operations: one class, a proposal network's levels, and a detector's classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import visionops
from benchmarks.peers import CV2, TORCHVISION
from benchmarks.row import Row, Workload, flat
from benchmarks.turns import Call
from visionops.boxes.random_boxes import clustered_boxes, scattered_boxes
from visionops.suppression import reference
from visionops.suppression.hard_boxes import GENERATORS

Rng = np.random.Generator
GATED = 10_000  # boxes without classes that the reference can do in seconds
SLOW = 50_000  # boxes without classes for which torchvision takes seconds


class Image(NamedTuple):
    """Candidates of one image: boxes (N, 4), scores (N,) and class ids (N,)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def rows() -> list[Row]:
    """The rows, and the least speed-up that we ask of each; of nms on scattered boxes."""
    asked = {
        "NMS-1k-scattered": {"torchvision": 10.0},
        "NMS-10k-scattered": {"torchvision": 40.0, "OpenCV": 60.0},
        "NMS-50k-scattered": {"torchvision": 100.0},
    }
    found = []
    for size, n in {"10": 10, "100": 100, "1k": 1000, "10k": 10_000, "50k": 50_000, "100k": 100_000}.items():
        for name, generate in GENERATORS.items():
            row = f"NMS-{size}-{name}"
            found.append(Row(row, partial(_nms, generate, n), asked.get(row, {}), serial=True, slow=n >= SLOW))
    batched = partial(Row, serial=True)
    return [
        *found,
        batched("NMS-RPN-test", partial(_proposals, [1000] * 4 + [819], top=1000)),
        batched("NMS-RPN-train", partial(_proposals, [2000] * 4 + [819], top=2000)),
        batched("NMS-RPN-all", partial(_classes, 4819, 5, 0.7), {"torchvision": 20.0}),
        *(
            batched(f"NMS-YOLO-{confidence:g}-{images}", partial(_detector, confidence, images))
            for confidence in (0.25, 0.001)
            for images in (1, 16)
        ),
        batched("NMS-YOLO-30k", partial(_classes, 30_000, 80, 0.45, clusters=60), {"torchvision": 20.0}),
        batched("NMS-LVIS", partial(_classes, 30_000, 1203, 0.5, top=300)),
    ]


def _nms(generate: Callable[[Rng, int], npt.NDArray[np.float64]], n: int) -> Workload:
    rng = np.random.default_rng(0)
    boxes, scores = _tensor(generate(rng, n)), _tensor(rng.random(n))
    corner, score = _corner_and_size(boxes), scores.numpy()

    def gate(result: Tensor) -> str:
        # Boxes are drawn one like the other, so the first ones are a smaller draw.
        some = min(n, GATED)
        if some < n:
            result = visionops.nms(boxes[:some], scores[:some], 0.5)
        np.testing.assert_array_equal(result, reference.nms(boxes[:some].numpy(), score[:some], 0.5))
        return "reference" if some == n else f"reference on {some:,} of {n:,} boxes"

    peers: dict[str, Call] = {"torchvision": lambda: TORCHVISION.ops.nms(boxes, scores, 0.5)}
    if n < SLOW:
        peers["OpenCV"] = lambda: CV2.dnn.NMSBoxes(corner, score, 0.0, 0.5)
    witness = "torchvision" if n > GATED else None
    return Workload(lambda: visionops.nms(boxes, scores, 0.5), peers, gate, witness=witness)


def _proposals(levels: list[int], top: int) -> Workload:
    """A proposal network's candidates, so many of each level."""
    rng = np.random.default_rng(0)
    n = sum(levels)
    classes = torch.from_numpy(np.repeat(np.arange(len(levels)), levels))
    return _batched([Image(_tensor(clustered_boxes(rng, n)), _tensor(rng.random(n)), classes)], 0.7, top=top)


def _classes(n: int, count: int, threshold: float, clusters: int | None = None, top: int | None = None) -> Workload:
    """Scattered boxes of random classes."""
    rng = np.random.default_rng(0)
    boxes, scores = _tensor(scattered_boxes(rng, n, clusters=clusters)), _tensor(rng.random(n))
    return _batched([Image(boxes, scores, torch.from_numpy(rng.integers(count, size=n)))], threshold, top=top)


def _detector(confidence: float, count: int) -> Workload:
    """The candidates of 8400 places x 80 classes above a confidence, at most 30,000, of each image; 300 are kept.

    Logits are normal such that an image has some 1,000 candidates above 0.25 and 33,000 above 0.001.
    """
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        boxes = _tensor(clustered_boxes(rng, 8400))
        scores = torch.sigmoid(_tensor(rng.normal(-14.0, 4.4, size=8400 * 80)))
        best, at = scores.topk(min(30_000, int((scores > confidence).sum())))
        distinct = torch.cat([torch.tensor([True]), best[1:] != best[:-1]])  # torchvision leaves ties in any order
        best, at = best[distinct], at[distinct]
        images.append(Image(boxes[at // 80], best, at % 80))
    return _batched(images, 0.45, top=300, confidence=confidence)


def _batched(images: list[Image], threshold: float, top: int | None, confidence: float = 0.0) -> Workload:
    """The best boxes of each image; several images are one padded call of ours, and a loop of the peers'."""

    def gate(result: Any) -> str:
        expected = []
        for image in images[:2]:
            boxes, scores, classes = (t.numpy() for t in image)
            expected.append(reference.batched_nms(boxes, scores, classes, threshold, max_output=top))
        actual = flat((result[0][:2], result[1][:2])) if len(images) > 1 else result
        np.testing.assert_array_equal(actual, np.concatenate(expected))
        return "reference" if len(images) <= 2 else f"reference on 2 of {len(images)} images"

    peers: dict[str, Call] = {
        "torchvision": lambda: [TORCHVISION.ops.batched_nms(*image, threshold)[:top] for image in images],
    }
    if len(images) == 1:
        corner, (score, label) = _corner_and_size(images[0].boxes), (t.numpy() for t in images[0][1:])
        small = label.astype(np.int32)
        peers["OpenCV"] = lambda: CV2.dnn.NMSBoxesBatched(corner, score, small, 0.0, threshold)[:top]
        return Workload(lambda: visionops.batched_nms(*images[0], threshold, max_output=top), peers, gate)
    batch = _padded(images)
    ours = partial(visionops.batched_nms, *batch, threshold, score_threshold=confidence, max_output=top, padded=True)
    return Workload(ours, peers, gate, witness="torchvision")


def _padded(images: list[Image]) -> Image:
    """One batch (B, N, ...); what fills an image up has a score of 0."""
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return Image(*(pad([image[i] for image in images]) for i in range(3)))


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values).float()


def _corner_and_size(boxes: Tensor) -> npt.NDArray[np.float32]:
    """OpenCV's format."""
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).numpy()
