"""The crowded scene of docs/suppression.md: what its picture says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from examples.crowded_scene import PEOPLE, run


def test_scores_that_decay_find_more_of_a_crowd(tmp_path: Path) -> None:
    found = run(tmp_path / "scene.png")
    assert (tmp_path / "scene.png").stat().st_size > 10_000
    assert found["fast_nms, threshold 0.5"] < found["nms, threshold 0.5"] < found["soft_nms, gaussian"] == PEOPLE
