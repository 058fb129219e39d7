"""Modules of the operations on regions of interest, with torchvision's constructor arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from visionops import _check
from visionops.roi import multiscale_roi_align, roi_align, roi_pool


class RoIPool(nn.Module):
    """The maximum of the pixels in each bin of each region: `visionops.roi_pool`.

    >>> RoIPool(2, spatial_scale=1.0)(torch.arange(16.0).view(1, 1, 4, 4), [torch.tensor([[0.0, 0, 3, 2]])])
    tensor([[[[ 5.,  7.],
              [ 9., 11.]]]])
    """

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) and (K, 5) rows, or (K_i, 4) per image, to (K, C, height, width)."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        """What its representation shows."""
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class RoIAlign(nn.Module):
    """The mean or maximum of bilinear samples in each bin of each region: `visionops.roi_align`.

    >>> align = RoIAlign(2, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    >>> align(torch.arange(16.0).view(1, 1, 4, 4), [torch.tensor([[0.0, 0, 4, 4]])])
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
        *,
        mode: str = "avg",
    ) -> None:
        super().__init__()
        self.output_size, self.spatial_scale, self.sampling_ratio = output_size, spatial_scale, sampling_ratio
        self.aligned, self.mode = aligned, mode

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) and (K, 5) rows, or (K_i, 4) per image, to (K, C, height, width)."""
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned, mode=self.mode
        )

    def extra_repr(self) -> str:
        """What its representation shows."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}, mode={self.mode!r}"
        )


class MultiScaleRoIAlign(nn.Module):
    """RoIAlign of each region from the map of its level in a pyramid: `visionops.multiscale_roi_align`.

    Args:
        featmap_names: Which maps of the mapping to pool from, finest first in it.
        output_size: Bins, as (height, width) or one number for both.
        sampling_ratio: As in `roi_align`.
        canonical_scale: Side of a square region that belongs to canonical_level.
        canonical_level: The level of such a region.
        aligned: As in `roi_align`, but without it False, as torchvision's module has it.
        spatial_scales: Pixels of each map for one of the image, powers of two. Without them each call reads them off
            its own sizes, as the power of two nearest to a map's height over the greatest image's; none is remembered.

    >>> maps = {"fine": torch.full((1, 1, 64, 64), 2.0), "coarse": torch.full((1, 1, 32, 32), 3.0)}
    >>> boxes = [torch.tensor([[0.0, 0, 100, 100], [0, 0, 200, 200]])]
    >>> MultiScaleRoIAlign(["fine", "coarse"], 1, 2)(maps, boxes, [(256, 256)]).flatten()
    tensor([2., 3.])
    """

    def __init__(
        self,
        featmap_names: Sequence[str],
        output_size: int | tuple[int, int],
        sampling_ratio: int,
        *,
        canonical_scale: int = 224,
        canonical_level: int = 4,
        aligned: bool = False,
        spatial_scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.featmap_names, self.output_size, self.sampling_ratio = list(featmap_names), output_size, sampling_ratio
        self.canonical_scale, self.canonical_level, self.aligned = canonical_scale, canonical_level, aligned
        self.spatial_scales = None if spatial_scales is None else list(spatial_scales)
        for scale in self.spatial_scales or ():
            _check.positive("spatial_scales", scale)

    def forward(
        self,
        x: Mapping[str, Tensor],
        boxes: Tensor | Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]] | None = None,
    ) -> Tensor:
        """Maps by name, boxes in pixels of the images, and the images' (height, width), to (K, C, height, width)."""
        maps = [of_name for name, of_name in x.items() if name in self.featmap_names]
        scales = self.spatial_scales or _scales_of(maps, image_shapes)
        return multiscale_roi_align(
            maps,
            boxes,
            self.output_size,
            scales,
            self.sampling_ratio,
            self.aligned,
            canonical_size=self.canonical_scale,
            canonical_level=self.canonical_level,
            min_level=-round(math.log2(scales[0])),
        )

    def extra_repr(self) -> str:
        """What its representation shows."""
        return (
            f"featmap_names={self.featmap_names}, output_size={self.output_size}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


def _scales_of(maps: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]] | None) -> list[float]:
    if not maps:
        raise ValueError("x: expected a map of one of featmap_names, got none")
    if not image_shapes:
        raise ValueError(
            "image_shapes: expected one (height, width) per image, or spatial_scales at construction, got none"
        )
    height = max(_check.image_size("image_shapes", shape)[0] for shape in image_shapes)
    for size in (height, *(of_level.shape[2] for of_level in maps)):
        if size < 1:
            raise ValueError(f"x, image_shapes: expected maps and images of at least a row, got one of {size}")
    return [2.0 ** round(math.log2(of_level.shape[2] / height)) for of_level in maps]
