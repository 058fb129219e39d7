"""How batch norm in Triton cuts an image: rows in memory, tiles of them, runs that are summed, and what a tile loads.

An image lies in memory as rows: with channels last some pixels' channels, otherwise one channel of one image. A lane is
what is summed by itself: a column of rows with channels last, otherwise a row. In both, lane r C + c is of channel c.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from visionops._backend import INTERPRETED
from visionops._layout import is_channels_last
from visionops.norm.fused_batch_norm import COLUMNS

# Elements of a tile. The interpreter takes as long for a small one as for a large one.
TILE = 16384 if INTERPRETED else 2048
LANES = 256 if INTERPRETED else 64  # of a tile, channels last
RUN = 16 if INTERPRETED else 64  # rows that one program sums over, channels last
LONG_RUN = 4096 if INTERPRETED else 16384  # columns that one program sums over otherwise
PIECES, CHANNELS = 64, 16  # of a tile of the merger


@dataclass(frozen=True)
class Rows:
    """How an image lies in memory, and the tiles and runs that kernels take of it."""

    last: bool  # channels last
    rows: int
    columns: int
    repeats: int  # lanes of a channel
    pixels: int  # of all images: elements of a channel

    @classmethod
    def of(cls, image: Tensor) -> Rows:
        """Of a dense image that is not empty."""
        batch, channels, height, width = image.shape
        pixels = batch * height * width
        if not is_channels_last(image):
            return cls(False, batch * channels, height * width, batch, pixels)
        repeats = max(1, COLUMNS // channels)
        return cls(True, triton.cdiv(pixels, repeats), repeats * channels, repeats, pixels)

    @property
    def row_bytes(self) -> int:
        """Of a row's bits."""
        return (self.columns + 7) // 8

    def tile(self) -> tuple[int, dict[str, int]]:
        """How many tiles cover the rows, and a tile's sizes."""
        columns = min(max(triton.next_power_of_2(self.columns), 8), TILE)
        rows = TILE // columns
        count = triton.cdiv(self.rows, rows) * triton.cdiv(self.columns, columns)
        return count, {"ROWS": rows, "COLUMNS": columns}

    def runs(self) -> tuple[int, int, int, dict[str, int]]:
        """Lanes, their length, runs, and the constants of kernels that sum lanes."""
        lanes, along = (self.columns, self.rows) if self.last else (self.rows, self.columns)
        if self.last:
            run, wide = RUN, LANES
        else:
            run, wide = LONG_RUN, max(1, TILE // min(triton.next_power_of_2(along), TILE))
        return lanes, along, triton.cdiv(along, run), {"RUN": run, "LANES": wide, "STEPS": TILE // wide}


@triton.jit
def places(lane, along, columns, LAST: tl.constexpr):
    """Offsets of a tile: lanes across with channels last, else down."""
    if LAST:
        offsets = along[:, None].to(tl.int64) * columns + lane[None, :]
    else:
        offsets = lane[:, None].to(tl.int64) * columns + along[None, :]
    return offsets


@triton.jit
def bit_places(lane, along, row_bytes, LAST: tl.constexpr):
    """Bytes of a tile's bits, and the bits in them."""
    if LAST:
        byte = along[:, None].to(tl.int64) * row_bytes + (lane // 8)[None, :]
        bit = (lane % 8)[None, :]
    else:
        byte = lane[:, None].to(tl.int64) * row_bytes + (along // 8)[None, :]
        bit = (along % 8)[None, :]
    return byte, bit


@triton.jit
def rounded(value, DTYPE: tl.constexpr):
    """A float64 in a dtype; 16-bit ones are not reached in one step."""
    if DTYPE != tl.float64:
        value = value.to(tl.float32)
    return value.to(DTYPE)


@triton.jit
def across(values, LAST: tl.constexpr):
    """Values of lanes, to meet a tile."""
    if LAST:
        values = values[None, :]
    else:
        values = values[:, None]
    return values


@triton.jit
def before_activation(
    input, residual, coefficients, place, channel, mask,
    channels,
    RESIDUAL: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """(x - centre) * scale + shift + residual; coefficients (3 or 5, C)."""
    x = tl.load(input + place, mask, 0).to(COMPUTE)
    centre = tl.load(coefficients + channel)
    scale = tl.load(coefficients + channels + channel)
    shift = tl.load(coefficients + 2 * channels + channel)
    z = (x - centre) * scale + shift
    if RESIDUAL:
        z += tl.load(residual + place, mask, 0).to(COMPUTE)
    return z
