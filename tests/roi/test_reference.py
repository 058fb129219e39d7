"""The reference of room `roi` against other witnesses: torch's grid_sample and pooling, and values worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from visionops.roi import reference

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def rois(*rows: tuple[float, ...]) -> Array:
    return np.array(rows, np.float64)


def sampled(image: Array, y: Array, x: Array) -> Array:
    """Torch's bilinear samples at pixel coordinates: the border's value up to a pixel outside, zero further out."""
    height, width = image.shape[1:]
    grid = np.stack(np.meshgrid(2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1), axis=-1)
    values = torch.nn.functional.grid_sample(
        torch.from_numpy(image)[None],
        torch.from_numpy(grid)[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )[0].numpy()
    values *= ((y >= -1) & (y <= height))[:, None] & ((x >= -1) & (x <= width))
    return values


@pytest.mark.parametrize("sampling_ratio", [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("mode", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_samples_are_those_of_grid_sample(sampling_ratio: int, aligned: bool, mode: str, reduce: Any) -> None:
    image = RNG.normal(size=(3, 11, 17))
    height, width, scale = 3, 4, 0.5
    for x1, y1, x2, y2 in ((2.3, 4.1, 29.7, 20.2), (-7.0, 9.5, 12.25, 30.0), (0.5, 0.5, 33.0, 21.0)):
        result = reference.roi_align(
            image[None], rois((0, x1, y1, x2, y2)), (height, width), scale, sampling_ratio, aligned, mode=mode
        )[0]
        offset = 0.5 if aligned else 0.0
        left, top = x1 * scale - offset, y1 * scale - offset
        bin_width, bin_height = (x2 - x1) * scale / width, (y2 - y1) * scale / height
        across = sampling_ratio if sampling_ratio > 0 else int(np.ceil(bin_width))
        down = sampling_ratio if sampling_ratio > 0 else int(np.ceil(bin_height))
        for p in range(height):
            for q in range(width):
                y = top + p * bin_height + (np.arange(down) + 0.5) * bin_height / down
                x = left + q * bin_width + (np.arange(across) + 0.5) * bin_width / across
                expected = reduce(sampled(image, y, x), axis=(1, 2))
                np.testing.assert_allclose(result[:, p, q], expected, rtol=1e-10, atol=1e-12)


def test_a_bin_by_hand() -> None:
    image = np.arange(20.0).reshape(1, 1, 4, 5)
    # Samples at (1.5, 1.75): between pixels 6, 7, 11, 12.
    assert reference.roi_align(image, rois((0, 1, 1, 2.5, 2)), 1, 1.0, 1)[0, 0, 0, 0] == 1.5 * 5 + 1.75
    # The same half a pixel up and left.
    assert reference.roi_align(image, rois((0, 1, 1, 2.5, 2)), 1, 1.0, 1, True)[0, 0, 0, 0] == 1.0 * 5 + 1.25


def test_samples_outside_count_as_zero() -> None:
    ones = np.ones((1, 1, 4, 4))
    # Two samples a side at -2 and 0 of each axis: only one of four is on the map.
    assert reference.roi_align(ones, rois((0, -3, -3, 1, 1)), 1, 1.0, 2)[0, 0, 0, 0] == 0.25
    assert reference.roi_align(-ones, rois((0, -3, -3, 1, 1)), 1, 1.0, 2, mode="max")[0, 0, 0, 0] == 0
    assert reference.roi_align(-ones, rois((0, 1, 1, 3, 3)), 1, 1.0, 2, mode="max")[0, 0, 0, 0] == -1
    # A sample at exactly -1 or at the size reads the border; the next number out is on no map.
    for edge, inside in ((-1.0, 1.0), (np.nextafter(-1.0, -2), 0.0), (4.0, 1.0), (np.nextafter(4.0, 5), 0.0)):
        row = rois((0, 1, edge + 0.5, 3, edge + 0.5))
        assert reference.roi_align(ones, row, 1, 1.0, 1, True)[0, 0, 0, 0] == inside


def test_extents_that_are_not_positive() -> None:
    ones = np.ones((1, 1, 6, 6))
    inverted = rois((0, 4, 4, 2, 2))
    assert reference.roi_align(ones, inverted, 2, 1.0, 2, True).tolist() == [[[[1, 1], [1, 1]]]]
    assert reference.roi_align(ones, inverted, 2, 1.0, -1, True).tolist() == [[[[0, 0], [0, 0]]]]
    assert reference.roi_align(ones, rois((0, 3, 3, 3, 3)), 1, 1.0, -1, True).item() == 0
    # Unaligned regions are at least a pixel wide.
    assert reference.roi_align(ones, rois((0, 3, 3, 3, 3)), 1, 1.0, -1).item() == 1
    ramp = np.arange(6.0).reshape(1, 1, 1, 6) * ones
    mirrored = reference.roi_align(ramp, rois((0, 4, 1, 2, 3)), (1, 2), 1.0, 1, True)
    assert mirrored.tolist() == [[[[3.0, 2.0]]]]


def test_a_huge_region_is_sampled_where_the_map_is() -> None:
    image = RNG.normal(size=(1, 1, 5, 5))
    grid = 2_000_000
    row = rois((0, -grid / 2, 0, grid / 2, 5))
    result = reference.roi_align(image, row, 1, 1.0, -1)[0, 0, 0, 0]
    # Columns are sampled at every half: -0.5 to 4.5, of all of them.
    x = np.arange(-0.5, 5)
    assert result == pytest.approx(sampled(image[0], np.arange(5) + 0.5, x).mean() * len(x) / grid, rel=1e-9)


def test_pooling_of_whole_windows_is_torch_s() -> None:
    image = RNG.normal(size=(2, 3, 12, 15))
    whole = rois((0, 0, 0, 14, 11), (1, 0, 0, 14, 11))
    expected = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(image), (5, 7)).numpy()
    np.testing.assert_array_equal(reference.roi_pool(image, whole, (5, 7)), expected)


def test_pooling_rounds_halves_away_from_zero() -> None:
    image = np.arange(30.0).reshape(1, 1, 5, 6)
    # 0.5 becomes 1, 2.5 becomes 3 and -0.5 becomes -1: rows and columns [1, 3] and [-1, 3].
    assert reference.roi_pool(image, rois((0, 0.5, 0.5, 2.5, 2.5)), 1).item() == 3 * 6 + 3
    assert reference.pool_edges(0.5, 2.5, 1.0, 1, 5) == [(1, 4)]
    assert reference.pool_edges(-0.5, 2.5, 1.0, 5, 5) == [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4)]
    assert reference.pool_edges(np.nextafter(0.5, 0), 2.5, 1.0, 1, 5) == [(0, 4)]


def test_pooling_edges_are_whole_numbers() -> None:
    # In float32, 7 * (49 / 49) and its like are below the whole number for many sizes.
    for extent in range(1, 200):
        for bins in (1, 2, 3, 7, 14, 49):
            edges = reference.pool_edges(0, extent - 1, 1.0, bins, 1000)
            expected = [(p * extent // bins, -(-(p + 1) * extent // bins)) for p in range(bins)]
            assert edges == expected


def test_pooling_what_is_not_finite() -> None:
    image = np.array([[[[-np.inf, -np.inf, 1.0], [-np.inf, np.nan, 2.0]]]])
    assert reference.roi_pool(image, rois((0, 0, 0, 0, 1)), 1).item() == -np.inf
    assert np.isnan(reference.roi_pool(image, rois((0, 0, 0, 2, 1)), 1).item())
    assert reference.roi_pool(image, rois((0, 7, 7, 9, 9)), 1).item() == 0


@pytest.mark.parametrize(
    ("side", "level"), [(111.9, 0), (112.0, 1), (223.9, 1), (224.0, 2), (447.9, 2), (448.0, 3), (5000.0, 3), (1.0, 0)]
)
def test_levels_by_hand(side: float, level: int) -> None:
    maps = [np.full((1, 1, 4, 4), float(i)) for i in range(4)]
    result = reference.multiscale_roi_align(maps, rois((0, 0, 0, side, side)), 1, [1e-4] * 4)
    assert result.item() == level
