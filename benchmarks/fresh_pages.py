"""The roof of a large result: memory that the process never touched, and the bandwidth to fill and to copy it."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch

SIZE = 64 << 20


def fill(size: int) -> None:
    """Fill so many fresh bytes, on huge pages where the system grants them, and give them back."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    torch.frombuffer(pages, dtype=torch.float32).fill_(1.0)


def fresh_bandwidth() -> float:
    """GB/s of `fill` at 64 MB."""
    return _bandwidth(lambda: fill(SIZE))


def copy_bandwidth() -> float:
    """GB/s, read and written counted once, of copying 64 MB to warm memory."""
    source, target = torch.ones(SIZE // 4), torch.zeros(SIZE // 4)
    return _bandwidth(lambda: target.copy_(source))


def _bandwidth(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(15):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return SIZE / median(seconds) / 1e9
