"""The references of the suppressions that lower scores, against values worked by hand and the papers' own forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from visionops.boxes.random_boxes import clustered_boxes
from visionops.suppression import reference as ref

Array = npt.NDArray[Any]

# IoU: first and second 3/4, first and third 1/2, second and third 2/3; the fourth stands apart.
BOXES = np.array([[0.0, 0, 4, 4], [0, 0, 4, 3], [0, 0, 4, 2], [8, 0, 9, 1]])
SCORES = np.array([0.5, 0.9, 0.8, 0.1])


def test_soft_nms_by_hand() -> None:
    # The second is taken; the first falls to 0.5 (1 - 3/4), the third to 0.8 (1 - 2/3). The third is taken and, with
    # IoU 1/2, halves the first once more.
    indices, scores = ref.soft_nms(BOXES, SCORES)
    assert indices.tolist() == [1, 2, 3, 0]
    np.testing.assert_allclose(scores, [0.9, 0.8 / 3, 0.1, 0.5 / 4 / 2])
    # At a threshold of 1/2 itself the last step does not happen; at 2/3 only the first pair decays.
    np.testing.assert_allclose(ref.soft_nms(BOXES, SCORES, iou_threshold=0.5)[1], [0.9, 0.8 / 3, 0.125, 0.1])
    np.testing.assert_allclose(ref.soft_nms(BOXES, SCORES, iou_threshold=2 / 3)[1], [0.9, 0.8, 0.125, 0.1])
    indices, scores = ref.soft_nms(BOXES, SCORES, method="gaussian", sigma=0.5)
    assert indices.tolist() == [1, 2, 3, 0]
    third, first = 0.8 * np.exp(-(4 / 9) / 0.5), 0.5 * np.exp(-(9 / 16 + 1 / 4) / 0.5)
    np.testing.assert_allclose(scores, [0.9, third, 0.1, first])
    assert ref.soft_nms(BOXES, SCORES, score_threshold=0.1)[0].tolist() == [1, 2]
    assert ref.soft_nms(BOXES, SCORES, np.array([0, 1, 2, 0]), max_output=2)[0].tolist() == [1, 2]


def test_matrix_nms_by_hand() -> None:
    # Best first: second, third, first, fourth. c = 0, 2/3, 3/4, 0. The first box: against the second
    # (1 - 3/4) / (1 - 0) = 1/4, against the third (1 - 1/2) / (1 - 2/3) = 3/2.
    indices, scores = ref.matrix_nms(BOXES, SCORES, kernel="linear")
    assert indices.tolist() == [1, 2, 0, 3]
    np.testing.assert_allclose(scores, [0.9, 0.8 / 3, 0.5 / 4, 0.1])
    # Squares: 9/16 - 0 against 1/4 - 4/9, which is negative and counts as no more than 0.
    indices, scores = ref.matrix_nms(BOXES, SCORES, sigma=1.0)
    np.testing.assert_allclose(scores, [0.9, 0.8 * np.exp(-4 / 9), 0.5 * np.exp(-9 / 16), 0.1])
    masks = np.zeros((4, 4, 9), np.bool_)
    for mask, (x1, y1, x2, y2) in zip(masks, BOXES.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    for kernel in ("linear", "gaussian"):
        of_masks, of_boxes = (
            ref.mask_matrix_nms(masks, SCORES, kernel=kernel),
            ref.matrix_nms(BOXES, SCORES, kernel=kernel),
        )
        assert of_masks[0].tolist() == of_boxes[0].tolist()
        np.testing.assert_allclose(of_masks[1], of_boxes[1])


def test_fast_nms_by_hand() -> None:
    # The first overlaps the second by 3/4, which is out only for nms once the third is.
    assert ref.fast_nms(BOXES, SCORES, iou_threshold=0.7).tolist() == [1, 2, 3]
    chain = np.array([[0.0, 0, 9, 9], [3, 0, 12, 9], [6, 0, 15, 9]])
    scores = np.array([0.9, 0.8, 0.7])
    assert ref.nms(chain, scores, 0.4).tolist() == [0, 2]
    assert ref.fast_nms(chain, scores, iou_threshold=0.4).tolist() == [0]
    assert ref.fast_nms(chain, scores, np.array([0, 1, 0]), iou_threshold=0.4).tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_three_duplicates_leave_no_nan(method: str) -> None:
    same, scores = np.tile([0.0, 0, 4, 4], (3, 1)), np.array([0.9, 0.8, 0.7])
    for _, decayed in (
        ref.soft_nms(same, scores, method=method, score_threshold=None),
        ref.matrix_nms(same, scores, kernel=method),
    ):
        assert np.isfinite(decayed).all()
        assert decayed[0] == 0.9


def _decays(iou: torch.Tensor, kernel: str, sigma: float) -> torch.Tensor:
    """The factors in the papers' matrix form: decay = min over i of f(IoU_ij) / f(c_i), i above j."""
    upper = iou.triu(1)
    worst = upper.amax(0)[:, None]
    if kernel == "gaussian":
        ratio = torch.exp(-sigma * upper**2) / torch.exp(-sigma * worst**2)
    else:
        ratio = (1 - upper) / (1 - worst)
    better = torch.ones_like(iou).triu(1) > 0
    return torch.where(better, ratio, torch.inf).amin(0).clamp_max(1)


@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_matrix_nms_as_a_matrix(kernel: str) -> None:
    rng = np.random.default_rng(0)
    boxes, scores = clustered_boxes(rng, 200, objects=5), np.sort(rng.random(200))[::-1].copy()
    b = torch.from_numpy(boxes)
    area = (b[:, 2:] - b[:, :2]).prod(1)
    common = (torch.minimum(b[:, None, 2:], b[:, 2:]) - torch.maximum(b[:, None, :2], b[:, :2])).clamp_min(0).prod(2)
    expected = torch.from_numpy(scores) * _decays(common / (area[:, None] + area - common), kernel, 2.0)
    indices, decayed = ref.matrix_nms(boxes, scores, kernel=kernel)
    np.testing.assert_allclose(decayed, expected[indices], rtol=1e-9)
    assert (np.diff(decayed) <= 0).all()
    assert sorted(indices.tolist()) == list(range(200))
