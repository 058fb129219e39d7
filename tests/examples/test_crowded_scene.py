"""The crowded scene of docs/suppression.md: what its picture says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")


def test_scores_that_decay_find_more_of_a_crowd(example: Callable[[str], Any], tmp_path: Path) -> None:
    scene = example("crowded_scene")
    found = scene.run(tmp_path / "scene.png")
    assert (tmp_path / "scene.png").stat().st_size > 10_000
    assert found["fast_nms, threshold 0.5"] < found["nms, threshold 0.5"] < found["soft_nms, gaussian"] == scene.PEOPLE
