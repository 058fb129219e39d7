"""What bounds a row on this machine, measured in the same run: filling fresh memory, copying, multiplying matrices."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

import torch

from benchmarks.turns import Call

SIZE = 64 << 20
SIDE = 1024
FRESH_FROM = 32 << 20  # bytes: the allocator keeps smaller results, so their pages are not fresh


@dataclass(frozen=True)
class Roof:
    """The least time a row could take.

    Attributes:
        name: What bounds it: "fresh", "copy" or "gemm".
        call: Does a known amount of that, at the rate this machine has for it.
        share: How much of that amount the row must do.
    """

    name: str
    call: Call
    share: float = 1.0


def writes(size: int) -> Roof | None:
    """So many bytes of result bound the row; None where they are too few to lie in memory that was never touched."""
    return Roof("fresh", partial(fill, size)) if size >= FRESH_FROM else None


def moves(size: int) -> Roof:
    """So many bytes that must be read or written bound the row."""
    source, target = torch.ones(SIZE // 4), torch.zeros(SIZE // 4)
    return Roof("copy", lambda: target.copy_(source), size / (2 * SIZE))


def multiplies(macs: int) -> Roof:
    """So many float32 multiplications, each with its addition, bound the row."""
    a, b = torch.ones(SIDE, SIDE), torch.ones(SIDE, SIDE)
    return Roof("gemm", lambda: a @ b, macs / SIDE**3)


def fill(size: int) -> None:
    """Fill so many fresh bytes, on huge pages where the system grants them, and give them back."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    torch.frombuffer(pages, dtype=torch.float32).fill_(1.0)


def fresh_bandwidth() -> float:
    """GB/s of filling 64 MB of fresh memory."""
    return SIZE / _seconds(partial(fill, SIZE)) / 1e9


def copy_bandwidth() -> float:
    """GB/s, read and written counted once, of copying 64 MB to warm memory."""
    return SIZE / _seconds(moves(0).call) / 1e9


def gemm_rate() -> float:
    """GFLOP/s of torch's product of two matrices of 1,024 x 1,024."""
    return 2 * SIDE**3 / _seconds(multiplies(0).call) / 1e9


def _seconds(work: Call) -> float:
    seconds = []
    for _ in range(15):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return median(seconds)
