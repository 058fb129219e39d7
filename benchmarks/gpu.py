"""`python -m benchmarks.gpu`: every room that has kernels for a GPU, beside torchvision, torch and torch.compile.

A call is timed by CUDA events, its median with a cold and with a warm L2; beside it stand the kernels it launches, the
times it makes the host wait, and the memory it needs beyond its inputs. A row is timed only after its result was that
of the CPU kernels, which the suite compares with the reference. Writes benchmarks/results/<gpu>.json.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import visionops
from benchmarks import gpu_rows
from benchmarks.gpu_rows import GpuRow
from benchmarks.peers import VERSIONS

HERE = Path(__file__).parent
ROUNDS = 30
FLUSHED = 256 << 20  # bytes written to empty the L2, several times its size
Call = Callable[[], Any]


def main() -> None:
    """Measure every row, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cpu only tries whether the program runs")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "dry run on the CPU"
    # Without a GPU the calls are only tried, with inputs of a hundredth.
    found = [measure(row, device) for row in track(rows(100 if device.type == "cpu" else 1), description=name)]
    machine = {"gpu": name, "cuda": torch.version.cuda, "versions": VERSIONS | {"visionops": visionops.__version__}}
    path = options.output / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": found}, indent=1) + "\n")
    Console(width=200).print(table(name, found))
    print(f"wrote {path}")


def rows(scale: int) -> list[GpuRow]:
    """The rows of every room that has a module in `gpu_rows`."""
    rooms = sorted(module.name for module in iter_modules(gpu_rows.__path__))
    return [row for room in rooms for row in import_module(f"benchmarks.gpu_rows.{room}").rows(scale)]


def measure(row: GpuRow, device: torch.device) -> dict[str, Any]:
    """The figures of a row; raises AssertionError if our result is wrong."""
    there = [tensor.to(device) for tensor in row.inputs]
    for got, expected in zip(_tensors(row.ours(*there)), _tensors(row.ours(*row.inputs)), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=row.tolerance, atol=row.tolerance)
    found: dict[str, Any] = {"name": row.name, "visionops": figures(partial(row.ours, *there), device)}
    for peer, call in row.peers.items():
        try:
            found[peer] = figures(partial(call, *there), device)
        except Exception as error:  # a peer that cannot do the row does not stop it
            found[peer] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    return found


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def figures(call: Call, device: torch.device) -> dict[str, float]:
    """Seconds with a cold and a warm L2, launches, waits, and bytes beyond what was there before."""
    for _ in range(5):
        call()
    found = {"cold": timed(call, device, flush=True), "warm": timed(call, device, flush=False)}
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        found["peak_bytes"] = torch.cuda.max_memory_allocated() - before
        activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            call()
            torch.cuda.synchronize()
        events = [event.name for event in profile.events()]
        found["launches"] = sum("LaunchKernel" in event for event in events)
        # One wait is the profile's own.
        found["waits"] = sum("Synchronize" in event for event in events) - 1
    return found


def timed(call: Call, device: torch.device, *, flush: bool) -> float:
    """Median seconds of a call."""
    samples: list[float] = []
    garbage = torch.empty(FLUSHED if device.type == "cuda" else 1, dtype=torch.uint8, device=device)
    for _ in range(ROUNDS):
        if flush:
            garbage.zero_()
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            samples.append(start.elapsed_time(end) / 1e3)
        else:
            began = time.perf_counter()
            call()
            samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def table(name: str, rows: list[dict[str, Any]]) -> Table:
    """Ours in microseconds and the peers' as multiples of it."""
    shown = Table(title=name)
    peers = sorted({peer for row in rows for peer in row} - {"name", "visionops"})
    for column in ("row", "cold µs", "warm µs", "launches", "waits", "MB", *(f"{peer} warm" for peer in peers)):
        shown.add_column(column, justify="left" if column == "row" else "right")
    for row in rows:
        ours = row["visionops"]
        ratios = [f"{row[p]['warm'] / ours['warm']:.1f}x" if "warm" in row.get(p, {}) else "" for p in peers]
        counts = [str(ours.get("launches", "")), str(ours.get("waits", "")), f"{ours.get('peak_bytes', 0) / 2**20:.1f}"]
        shown.add_row(row["name"], f"{ours['cold'] * 1e6:.1f}", f"{ours['warm'] * 1e6:.1f}", *counts, *ratios)
    return shown


if __name__ == "__main__":
    main()
