"""The same crowded scene through greedy, soft, matrix and fast NMS: writes docs/suppression.png.

A row of people stand so close that their boxes overlap by more than a usual threshold. A detector fires several times
on each, a little off each time and with a score that falls with the distance. Of what each method leaves, the best
boxes, as many as there are people, are red; the others are the fainter the lower their score has become.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor

import visionops

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

HERE = Path(__file__).parent
PEOPLE = 9
OVERLAP = 0.6  # IoU from which a box is a person's


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """People (P, 4), detections (N, 4) and their scores (N,)."""
    rng = np.random.default_rng(3)
    left = np.cumsum(np.r_[20, rng.uniform(10, 32, PEOPLE - 1)])
    top = rng.uniform(40, 60, PEOPLE)
    people = np.stack([left, top, left + rng.uniform(50, 62, PEOPLE), top + rng.uniform(150, 180, PEOPLE)], axis=1)
    boxes, scores = [], []
    for person in people:
        size = np.tile(person[2:] - person[:2], 2)
        off = rng.normal(size=(14, 4)) * 0.05
        boxes.append(person + off * size)
        scores.append((0.95 * np.exp(-6 * np.abs(off).mean(axis=1))) * rng.uniform(0.7, 1.0))
    return (torch.from_numpy(people), torch.from_numpy(np.concatenate(boxes)), torch.from_numpy(np.concatenate(scores)))


def with_scores(keep: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A suppression that drops boxes, with the scores of those it keeps."""

    def call(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        indices = keep(boxes, scores)
        return indices, scores[indices]

    return call


METHODS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "every detection": with_scores(lambda boxes, scores: scores.argsort(descending=True)),
    "nms, threshold 0.5": with_scores(lambda boxes, scores: visionops.nms(boxes, scores, 0.5)),
    "fast_nms, threshold 0.5": with_scores(lambda boxes, scores: visionops.fast_nms(boxes, scores)),
    "soft_nms, gaussian": lambda boxes, scores: visionops.soft_nms(boxes, scores, method="gaussian"),
    "matrix_nms, gaussian": visionops.matrix_nms,
    "matrix_nms, linear": lambda boxes, scores: visionops.matrix_nms(boxes, scores, kernel="linear"),
}


def people_found(people: Tensor, boxes: Tensor) -> int:
    """How many people are among the best boxes, as many as there are people."""
    overlap, owner = visionops.box_iou(boxes[:PEOPLE], people).max(1)
    return len(torch.unique(owner[overlap >= OVERLAP]))


def draw(people: Tensor, results: dict[str, tuple[Tensor, Tensor]], path: Path) -> None:
    """One panel for each method."""
    figure, panels = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
    for panel, (name, (boxes, scores)) in zip(panels.flat, results.items(), strict=True):
        found = people_found(people, boxes)
        panel.set_title(f"{name}: {len(boxes)} boxes,\nthe best {PEOPLE} hold {found} people")
        for x1, y1, x2, y2 in people.tolist():
            panel.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor="0.92", edgecolor="0.6"))
        for place, ((x1, y1, x2, y2), score) in enumerate(zip(boxes.tolist(), scores.tolist(), strict=True)):
            best = place < PEOPLE
            style = {"color": "C3", "linewidth": 2.0} if best else {"color": "C0", "alpha": 0.6 * score}
            panel.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, zorder=3 if best else 2, **style))
        panel.set(xlim=(0, float(people[:, 2].max()) + 20), ylim=(250, 20), xticks=[], yticks=[])
    figure.savefig(path, dpi=70)
    plt.close(figure)


def run(path: Path) -> dict[str, int]:
    """Draw the picture; people found by each method."""
    people, boxes, scores = scene()
    results: dict[str, Any] = {}
    for name, method in METHODS.items():
        indices, lowered = method(boxes, scores)
        results[name] = boxes[indices], lowered
    draw(people, results, path)
    return {name: people_found(people, kept) for name, (kept, _) in results.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=HERE.parent / "docs" / "suppression.png", help="the picture (%(default)s)"
    )
    output = parser.parse_args().output
    for name, found in run(output).items():
        print(f"{name:24} {found} of {PEOPLE} people in the best {PEOPLE} boxes")
    print(f"wrote {output}")
