"""Rows of the suppressions beside greedy NMS: soft, matrix and fast, against OpenCV and the papers' forms in torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import visionops
from benchmarks.peers import CV2, TORCHVISION
from benchmarks.row import Row, Workload
from benchmarks.turns import Call
from visionops.boxes.random_boxes import clustered_boxes, scattered_boxes
from visionops.suppression import reference

SIGMA = 2.0


def rows() -> list[Row]:
    """The rows; what is asked is the project's own aim."""
    return [
        Row("SOFT-200", partial(_soft, 200, "gaussian"), serial=True),
        Row("SOFT-1k", partial(_soft, 1000, "gaussian"), {"OpenCV": 12.0}, serial=True),
        Row("SOFT-4819", partial(_soft, 4819, "gaussian"), {"OpenCV": 25.0}, serial=True),
        Row("SOFT-1k-linear", partial(_soft, 1000, "linear"), serial=True),
        Row("SOFT-4819-linear", partial(_soft, 4819, "linear"), serial=True),
        Row("MATRIX-boxes-1k", partial(_matrix, 1000), {"torch": 10.0}),
        Row("MATRIX-boxes-5k", partial(_matrix, 5000)),
        Row("MATRIX-masks-500", partial(_masks, _discs), {"torch": 4.0}),
        Row("MATRIX-masks-500-noise", partial(_masks, _noise), {"torch": 4.0}),
        Row("FAST-80x200", _fast),
    ]


def _soft(n: int, method: str) -> Workload:
    """Whole-numbered boxes, the only ones that OpenCV takes; their conversion to lists is part of its call."""
    rng = np.random.default_rng(0)
    whole = scattered_boxes(rng, n).round()
    boxes, scores = _tensor(whole), _tensor(rng.random(n))
    corner = np.concatenate([whole[:, :2], whole[:, 2:] - whole[:, :2]], axis=1).astype(int)
    options: dict[str, Any] = {"method": method, "iou_threshold": 0.5, "score_threshold": 0.05}

    def gate(result: Any) -> str:
        expected = reference.soft_nms(boxes.numpy(), scores.numpy(), **options)
        # Near ties may change places: the scores must agree in order, the indices as a set.
        np.testing.assert_allclose(result[1], expected[1], rtol=1e-5, atol=1e-6)
        assert set(result[0].tolist()) == set(expected[0].tolist())
        return "reference"

    def opencv() -> Any:
        kind = getattr(CV2.dnn, f"SoftNMSMethod_SOFTNMS_{method.upper()}")
        return CV2.dnn.softNMSBoxes(corner.tolist(), scores.tolist(), 0.05, 0.5, 0, 0.5, kind)[1]

    return Workload(lambda: visionops.soft_nms(boxes, scores, **options), {"OpenCV": opencv}, gate)


def _published(iou: Tensor, scores: Tensor) -> Tensor:
    """The factors of gaussian matrix NMS as its authors publish them: whole matrices, best first."""
    upper = iou.triu(diagonal=1)
    worst = upper.max(0).values.expand(len(scores), len(scores)).T
    return (torch.exp(-SIGMA * upper**2) / torch.exp(-SIGMA * worst**2)).min(0).values


def _matrix(n: int) -> Workload:
    rng = np.random.default_rng(0)
    drawn = scattered_boxes(rng, 2 * n)
    # Clipped to nothing, a box makes every score of the peers' form NaN.
    boxes, scores = _tensor(drawn[(drawn[:, 2:] > drawn[:, :2]).all(axis=1)][:n]), _tensor(rng.random(n))

    def formula(boxes: Tensor, scores: Tensor) -> Tensor:
        order = scores.argsort(descending=True)
        best = boxes[order]
        decayed = scores[order] * _published(TORCHVISION.ops.box_iou(best, best), scores)
        return order[decayed.argsort(descending=True)]

    def gate(result: Any) -> str:
        some = min(n, 1000)
        if some < n:
            result = visionops.matrix_nms(boxes[:some], scores[:some])
        _same(result, reference.matrix_nms(boxes[:some].numpy(), scores[:some].numpy()))
        return "reference" if some == n else f"reference on {some:,} of {n:,} boxes"

    compiled = torch.compile(formula)
    peers: dict[str, Call] = {}
    if TORCHVISION is not None:
        peers = {"torch": lambda: formula(boxes, scores), "torch.compile": lambda: compiled(boxes, scores)}
    return Workload(lambda: visionops.matrix_nms(boxes, scores), peers, gate)


def _masks(draw: Any) -> Workload:
    """500 masks of 200 x 336, SOLO's at a quarter of an image of 800 x 1344."""
    rng = np.random.default_rng(0)
    masks, scores = torch.from_numpy(draw(rng, 500, 200, 336)), _tensor(rng.random(500))

    def formula() -> Tensor:
        order = scores.argsort(descending=True)
        flat = masks[order].reshape(len(order), -1).float()
        common, area = flat @ flat.T, flat.sum(1).expand(len(order), len(order))
        decayed = scores[order] * _published(common / (area + area.T - common), scores)
        return order[decayed.argsort(descending=True)]

    def gate(result: Any) -> str:
        _same(result, reference.mask_matrix_nms(masks.numpy(), scores.numpy()))
        return "reference"

    return Workload(lambda: visionops.mask_matrix_nms(masks, scores), {"torch": formula}, gate)


def _discs(rng: np.random.Generator, n: int, height: int, width: int) -> npt.NDArray[np.bool_]:
    """N masks (n, height, width), ellipses in boxes that crowd around 40 objects."""
    boxes = clustered_boxes(rng, n, width, height)[:, :, None, None]
    y, x = np.mgrid[:height, :width]
    across, down = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    inside: npt.NDArray[np.bool_] = ((2 * x - boxes[:, 0] - boxes[:, 2]) / across) ** 2 + (
        (2 * y - boxes[:, 1] - boxes[:, 3]) / down
    ) ** 2 <= 1
    return inside


def _noise(rng: np.random.Generator, n: int, height: int, width: int) -> npt.NDArray[np.bool_]:
    """N masks (n, height, width) of pixels set at random: every pair overlaps everywhere."""
    noise: npt.NDArray[np.bool_] = rng.random((n, height, width)) < 0.5
    return noise


def _fast() -> Workload:
    """YOLACT's detections: the best 200 of each of 80 classes, whose IoU it computes class by class at once."""
    rng = np.random.default_rng(0)
    boxes, scores = _tensor(clustered_boxes(rng, 80 * 200)), _tensor(rng.random(80 * 200))
    classes = torch.arange(80).repeat_interleave(200)

    def formula() -> Tensor:
        order = scores.view(80, 200).argsort(1, descending=True) + 200 * torch.arange(80)[:, None]
        best = boxes[order]
        area = (best[..., 2:] - best[..., :2]).prod(-1)
        low = torch.maximum(best[:, :, None, :2], best[:, None, :, :2])
        high = torch.minimum(best[:, :, None, 2:], best[:, None, :, 2:])
        common = (high - low).clamp_min(0).prod(-1)
        iou = common / (area[:, :, None] + area[:, None] - common)
        kept = order[iou.triu(1).max(1).values <= 0.5]
        return kept[scores[kept].argsort(descending=True)]

    def gate(result: Tensor) -> str:
        expected = reference.fast_nms(boxes.numpy(), scores.numpy(), classes.numpy())
        np.testing.assert_array_equal(result, expected)
        return "reference"

    return Workload(lambda: visionops.fast_nms(boxes, scores, classes), {"torch": formula}, gate)


def _same(result: Any, expected: Any) -> None:
    """The decayed scores in order, and each box's own: near ties may change places."""
    np.testing.assert_allclose(result[1], expected[1], rtol=1e-5, atol=1e-6)
    of_box = dict(zip(*(e.tolist() for e in expected), strict=True))
    np.testing.assert_allclose(result[1], [of_box[i] for i in result[0].tolist()], rtol=1e-5, atol=1e-6)


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values).float()
