"""The random boxes that cases are drawn from: proper boxes, the same for a seed, crowded where they should be."""

from typing import Any

import numpy as np
import pytest

from visionops.boxes import reference as ref
from visionops.boxes.random_boxes import clustered_boxes, scattered_boxes, uniform_boxes


@pytest.mark.parametrize("generate", [uniform_boxes, clustered_boxes, scattered_boxes])
@pytest.mark.parametrize("n", [0, 1, 10, 1001])
def test_generators_give_proper_boxes(generate: Any, n: int) -> None:
    boxes = generate(np.random.default_rng(5), n, 640, 480)
    assert boxes.shape == (n, 4)
    assert boxes.dtype == np.float64
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (boxes >= 0).all()
    assert (boxes <= np.array([640, 480, 640, 480]) * (1 + 1e-12)).all()
    np.testing.assert_array_equal(boxes, generate(np.random.default_rng(5), n, 640, 480))


def test_clustered_boxes_crowd() -> None:
    """A box of the crowd overlaps some others by more than half, one of a uniform set hardly any."""
    crowded, uniform = (
        (ref.box_iou(boxes, boxes) > 0.5).sum(axis=1)
        for boxes in (
            clustered_boxes(np.random.default_rng(6), 1000),
            uniform_boxes(np.random.default_rng(6), 1000),
        )
    )
    assert 0.6 < (crowded > 4).mean() < 0.8
    assert (uniform > 4).mean() < 0.1
