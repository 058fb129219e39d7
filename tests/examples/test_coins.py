"""The demo finds the coins: all of them, nothing else, and with the same parameters in images altered otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

COINS = 24  # counted by eye


@pytest.fixture(scope="module")
def demo(example: Callable[[str], Any]) -> Any:
    """The demo as a module."""
    return example("coins")


def check(demo: Any, image: Any) -> None:
    circles, scores = demo.candidates(image)
    assert len(circles) > 10_000
    kept = demo.suppress(demo.squares(circles), scores)
    masks = demo.segment(image)
    assert len(kept) == COINS
    assert len(masks) == COINS
    match = demo.mask_iou(circles[kept], masks) >= demo.MATCH_IOU
    assert match.sum(0).tolist() == [1] * COINS
    assert match.sum(1).tolist() == [1] * COINS


def test_each_coin_of_the_photograph_is_found_once(demo: Any) -> None:
    check(demo, demo.photograph())


def test_each_coin_of_the_second_image_is_found_once(demo: Any) -> None:
    check(demo, demo.altered(demo.photograph()))


@pytest.mark.parametrize("scale", [0.75, 1.0, 1.25])
@pytest.mark.parametrize("gamma", [0.7, 1.0, 2.0])
def test_the_parameters_do_not_depend_on_size_and_brightness(demo: Any, scale: float, gamma: float) -> None:
    check(demo, demo.altered(demo.photograph(), scale, gamma))


def test_mask_iou_counts_pixels(demo: Any) -> None:
    circles = torch.tensor([[4.0, 4.0, 2.0], [12.0, 4.0, 2.0]])
    y, x = torch.meshgrid(torch.arange(9), torch.arange(17), indexing="ij")
    disk = (x - 4) ** 2 + (y - 4) ** 2 < 2.5**2
    half = disk & (x < 4)
    iou = demo.mask_iou(circles, torch.stack([disk, half]))
    torch.testing.assert_close(iou, torch.tensor([[1, half.sum() / disk.sum()], [0, 0]]))


def test_one_to_one_means_every_circle_and_every_region_once(demo: Any) -> None:
    assert demo.one_to_one(torch.tensor([[0.1, 0.7], [0.9, 0.0]]))
    assert not demo.one_to_one(torch.tensor([[0.1, 0.7], [0.6, 0.0]]))
    assert not demo.one_to_one(torch.tensor([[0.8, 0.0], [0.9, 0.0]]))
    assert not demo.one_to_one(torch.tensor([[0.8, 0.0]]))
    assert not demo.one_to_one(torch.tensor([[0.8], [0.0]]))


def test_the_demo_prints_the_counts_and_saves_the_picture(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["coins.py", "--output", str(tmp_path / "new")])
    assert demo.main() == 0
    picture = tmp_path / "new" / "coins.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert printed.count("24 coins after visionops.nms") == 2
    assert str(picture) in printed
