"""Counts the coins in a photograph: thousands of candidate circles, one line that suppresses them, 24 coins.

    python examples/coins.py [--output DIR]

The photograph is scikit-image's `coins`, Greek coins from Pompeii on an unevenly lit background. A circular Hough
transform, which knows nothing of coins, scores a circle around every pixel at every radius, and answers each coin with
dozens of near-copies. `visionops.nms` keeps the best of each; a segmentation that shares no step with the Hough
transform says whether it kept the right ones. No parameter names a position or the number of coins, and the same
parameters run on a second image: the photograph mirrored, smaller and darker.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data, draw, exposure, feature, filters, measure, morphology, segmentation, transform, util
from torch import Tensor

import visionops

mpl.use("Agg")  # pictures go to files, so no display is needed; before pyplot, which would look for one
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection

Image = NDArray[np.float64]

# In pixels, from half the smallest coin to above the largest; fixed, so that a rescaled image has to fit in it too.
RADII = np.arange(10, 41)
# A candidate has an edge along 30 % of its circumference, which engravings reach; a coin has one along half.
CANDIDATE_SCORE = 0.3
COIN_SCORE = 0.5
# Coins do not overlap. The squares around two circles that only touch have an IoU of at most 0.045 (equal circles,
# touching on a diagonal), and those around two circles with one centre at least (10 / 40)^2 = 0.0625.
IOU_THRESHOLD = 0.05
# How well a kept circle must cover a region of the segmentation, and the region the circle.
MATCH_IOU = 0.7


def photograph() -> Image:
    """The photograph, grey in [0, 1]."""
    return np.asarray(util.img_as_float64(data.coins()))


def altered(image: Image, scale: float = 0.9, gamma: float = 1.5) -> Image:
    """The image mirrored, rescaled, and for gamma > 1 darkened."""
    mirrored = transform.rescale(image[:, ::-1], scale, anti_aliasing=scale < 1)
    return np.asarray(exposure.adjust_gamma(mirrored, gamma))


def candidates(image: Image) -> tuple[Tensor, Tensor]:
    """Circles (N, 3) as x, y, radius, and the share (N,) of their circumference that lies within a pixel of an edge."""
    # Smoothed until the engravings fade. Quantiles, so that bright and dark images give the same edges: the steepest
    # 15 % of the pixels, and of the steepest 30 % those connected to them, where the slope is steepest.
    edges = feature.canny(image, sigma=3, low_threshold=0.7, high_threshold=0.85, use_quantiles=True)
    # No coin is a perfect circle, so that an edge one pixel beside the circle counts as well.
    share = transform.hough_circle(morphology.dilation(edges, morphology.disk(1)), RADII)
    radius, y, x = np.nonzero(share > CANDIDATE_SCORE)
    circles = np.stack([x, y, RADII[radius]], axis=1)
    return torch.from_numpy(circles).float(), torch.from_numpy(share[radius, y, x]).float()


def squares(circles: Tensor) -> Tensor:
    """The boxes (N, 4) around circles (N, 3)."""
    centre, radius = circles[:, :2], circles[:, 2:]
    return torch.cat([centre - radius, centre + radius], dim=1)


def suppress(boxes: Tensor, scores: Tensor) -> Tensor:
    """The line that this demo is about: indices of the boxes that are coins."""
    keep: Tensor = visionops.nms(boxes, scores, IOU_THRESHOLD, score_threshold=COIN_SCORE)
    return keep


def torchvision_suppress() -> Callable[[Tensor, Tensor], Tensor] | None:
    """The same with torchvision, whose `nms` has no score threshold; None where it is not installed."""
    try:
        nms = importlib.import_module("torchvision.ops").nms
    except ImportError:
        return None

    def filter_and_suppress(boxes: Tensor, scores: Tensor) -> Tensor:
        passing = torch.nonzero(scores > COIN_SCORE)[:, 0]
        kept: Tensor = passing[nms(boxes[passing], scores[passing], IOU_THRESHOLD)]
        return kept

    return filter_and_suppress


def segment(image: Image) -> Tensor:
    """Masks (M, H, W) of the coins by brightness and watershed, without edges detected or circles assumed."""
    # What is brighter than the background, which is what remains of the image when all that is narrower than the
    # largest coin is taken away.
    width = int(2 * RADII[-1] + 1)
    raised = morphology.white_tophat(image, morphology.footprint_rectangle((width, width), decomposition="separable"))
    # Surely coin, surely not, and between them the watershed on the steepest slope.
    coin = filters.threshold_otsu(raised)
    markers = np.where(raised > coin, 2, np.where(raised < coin / 2, 1, 0))
    regions = measure.regionprops(measure.label(segmentation.watershed(filters.sobel(image), markers) == 2))
    masks = []
    for region in regions:
        if region.area_filled >= np.pi * RADII[0] ** 2:  # smaller ones are specks of dust
            masks.append(np.zeros(image.shape, dtype=bool))
            masks[-1][region.slice] = region.image_filled
    return torch.from_numpy(np.stack(masks))


def mask_iou(circles: Tensor, masks: Tensor) -> Tensor:
    """IoU (K, M) of the disks in circles (K, 3) with masks (M, H, W), counted in pixels."""
    disks = torch.zeros(len(circles), *masks.shape[1:])
    for disk, (x, y, radius) in zip(disks, circles.tolist(), strict=True):
        disk[draw.disk((y, x), radius + 0.5, shape=disk.shape)] = 1  # radius from the middle of a pixel, so half more
    rows, columns = disks.flatten(1), masks.flatten(1).float()
    shared = rows @ columns.T
    return shared / (rows.sum(1)[:, None] + columns.sum(1) - shared)


def one_to_one(iou: Tensor) -> bool:
    """Whether each circle matches exactly one region, and each region exactly one circle."""
    match = iou >= MATCH_IOU
    return bool((match.sum(0) == 1).all() and (match.sum(1) == 1).all())


def report(name: str, image: Image) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Circles, scores and the indices of the coins in an image, and whether the segmentation agrees, also printed."""
    circles, scores = candidates(image)
    kept = suppress(squares(circles), scores)
    iou = mask_iou(circles[kept], segment(image))
    agreed = one_to_one(iou)
    print(f"{name}: {image.shape[1]} x {image.shape[0]} pixels")
    print(f"  {len(circles):6,} candidate circles, {int((scores > COIN_SCORE).sum()):,} of them above {COIN_SCORE}")
    print(f"  {len(kept):6} coins after visionops.nms")
    verdict = "each matches one coin" if agreed else "THEY DO NOT MATCH one to one"
    print(f"  {iou.shape[1]:6} regions in an independent segmentation; {verdict} at IoU >= {MATCH_IOU}", end="")
    print(f" (lowest {iou.amax(1).min():.2f}, median {iou.amax(1).median():.2f})")
    return circles, scores, kept, agreed


def milliseconds(function: Callable[[Tensor, Tensor], Tensor], boxes: Tensor, scores: Tensor) -> float:
    """The median of many runs, after some that warm up."""
    times = []
    for _ in range(60):
        start = time.perf_counter()
        function(boxes, scores)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[10:])


def race(boxes: Tensor, scores: Tensor) -> None:
    """Print what suppressing takes, and beside it torchvision's time, once it kept the same boxes."""
    ours = milliseconds(suppress, boxes, scores)
    print(f"time for {len(boxes):,} boxes on the CPU, median of 50 runs")
    print(f"  visionops    {ours:6.3f} ms")
    rival = torchvision_suppress()
    if rival is None:
        print("  torchvision  not installed")
        return
    if not torch.equal(rival(boxes, scores), suppress(boxes, scores)):
        raise AssertionError("torchvision keeps other boxes")
    theirs = milliseconds(rival, boxes, scores)
    print(f"  torchvision  {theirs:6.3f} ms, {theirs / ours:.1f} times as long, the same boxes kept")


def draw_circles(axes: Axes, circles: Tensor, scores: Tensor, width: float, alpha: float) -> EllipseCollection:
    """Draw circles, coloured by score, onto a photograph."""
    x, y, radius = circles.numpy().T
    outlines = EllipseCollection(
        2 * radius, 2 * radius, np.zeros_like(radius), units="xy", offsets=np.stack([x, y], axis=1),
        offset_transform=axes.transData, facecolors="none", linewidths=width, alpha=alpha, cmap="plasma",
    )  # fmt: skip
    outlines.set_array(scores.numpy())
    outlines.set_clim(0, 1)
    axes.add_collection(outlines)
    return outlines


def save_picture(path: Path, image: Image, circles: Tensor, scores: Tensor, kept: Tensor) -> None:
    """The photograph twice: under all candidates, and with the circles kept and their scores."""
    figure, (before, after) = plt.subplots(1, 2, figsize=(14, 5.4), layout="constrained")
    for axes in (before, after):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
    weakest_first = torch.argsort(scores)
    draw_circles(before, circles[weakest_first], scores[weakest_first], width=0.4, alpha=0.06)
    before.set_title(f"before: {len(circles):,} candidate circles", fontsize=14)
    outlines = draw_circles(after, circles[kept], scores[kept], width=2.5, alpha=1)
    for (x, y, _), score in zip(circles[kept].tolist(), scores[kept].tolist(), strict=True):
        label = {"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
        after.text(x, y, f"{score:.2f}", color="white", fontsize=9, ha="center", va="center", bbox=label)
    after.set_title(f"after visionops.nms: {len(kept)} coins", fontsize=14)
    bar = figure.colorbar(outlines, ax=after, shrink=0.8)
    bar.set_label("score: share of the circumference on an edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Run the demo; 1 if the segmentation does not agree."""
    parser = argparse.ArgumentParser(description="Count the coins in a photograph.")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="folder of the picture (%(default)s)")
    picture = parser.parse_args().output / "coins.png"
    image = photograph()
    circles, scores, kept, agreed = report("the photograph", image)
    *_, agreed_again = report("the same mirrored, scaled by 0.9 and darkened", altered(image))
    race(squares(circles), scores)
    save_picture(picture, image, circles, scores, kept)
    print(f"picture: {picture}")
    return 0 if agreed and agreed_again else 1


if __name__ == "__main__":
    sys.exit(main())
