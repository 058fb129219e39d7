"""`python -m benchmarks.gpu`: IoU and suppression on a GPU against torchvision, eager torch and torch.compile.

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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import visionops
from benchmarks.peers import TORCHVISION, VERSIONS
from visionops.boxes.random_boxes import clustered_boxes, uniform_boxes

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
    rows = [measure(*row, device) for row in track(workloads(small=device.type == "cpu"), description=name)]
    machine = {"gpu": name, "cuda": torch.version.cuda, "versions": VERSIONS | {"visionops": visionops.__version__}}
    path = options.output / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    Console(width=200).print(table(name, rows))
    print(f"wrote {path}")


def workloads(small: bool) -> list[tuple[str, Callable[..., Any], dict[str, Any], list[Tensor]]]:
    """Name, our call, the peers' calls, and the inputs, on the CPU."""
    scale = 100 if small else 1
    rng = np.random.default_rng(0)
    found: list[tuple[str, Callable[..., Any], dict[str, Any], list[Tensor]]] = []
    for name, n, m in (("1k", 1000, 1000), ("10k", 10_000, 10_000), ("RPN", 268_569, 100)):
        a, b = (_tensor(uniform_boxes(rng, max(size // scale, 2))) for size in (n, m))
        for mode, peer in (("iou", "box_iou"), ("giou", "generalized_box_iou")):
            ours = partial(visionops.box_iou, mode=mode)
            found.append((f"{mode.upper()}-{name}", ours, _box_peers(peer), [a, b]))
    for name, n in (("1k", 1000), ("10k", 10_000), ("100k", 100_000)):
        for generate in (uniform_boxes, clustered_boxes):
            boxes, scores = _tensor(generate(rng, n // scale)), _tensor(rng.random(n // scale))
            padded = partial(visionops.nms, iou_threshold=0.5, max_output=1000, padded=True)
            label = f"NMS-{name}-{generate.__name__.removesuffix('_boxes')}"
            found.append((label, partial(visionops.nms, iou_threshold=0.5), _nms_peers("nms", 0.5), [boxes, scores]))
            found.append((f"{label}-padded", padded, {}, [boxes, scores]))
    for name, n, classes, threshold in (("RPN", 4819, 5, 0.7), ("YOLO", 30_000, 80, 0.45), ("LVIS", 30_000, 1203, 0.5)):
        boxes, scores = _tensor(clustered_boxes(rng, n // scale)), _tensor(rng.random(n // scale))
        ids = torch.from_numpy(rng.integers(classes, size=n // scale))
        ours = partial(visionops.batched_nms, iou_threshold=threshold)
        found.append((f"NMS-{name}", ours, _nms_peers("batched_nms", threshold), [boxes, scores, ids]))
    return found + _rescoring(rng, scale)


def _rescoring(
    rng: np.random.Generator, scale: int
) -> list[tuple[str, Callable[..., Any], dict[str, Any], list[Tensor]]]:
    """Soft, matrix and fast NMS; of soft NMS there is no peer on a GPU."""
    found: list[tuple[str, Callable[..., Any], dict[str, Any], list[Tensor]]] = []
    for n, classes in ((1000, 1), (4819, 5), (30_000, 80)):
        boxes, scores = _tensor(clustered_boxes(rng, n // scale)), _tensor(rng.random(n // scale))
        ids = torch.from_numpy(rng.integers(classes, size=n // scale))
        for form in (visionops.soft_nms, visionops.matrix_nms, visionops.fast_nms):
            ours = partial(_scores_of, form)
            found.append((f"{form.__name__}-{n}x{classes}", ours, {}, [boxes, scores, ids]))
    masks = torch.from_numpy(rng.random((500 // scale, 200, 336)) < 0.5)
    ours = partial(_scores_of, visionops.mask_matrix_nms)
    found.append(("mask_matrix_nms-500", ours, {}, [masks, _tensor(rng.random(500 // scale))]))
    return found


def _scores_of(form: Callable[..., Any], *inputs: Tensor) -> Any:
    """The decayed scores: the indices beside them may change places where scores nearly tie. Or indices alone."""
    result = form(*inputs)
    return result[1] if isinstance(result, tuple) else result


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(values).float()


def _box_peers(name: str) -> dict[str, Any]:
    if TORCHVISION is None:
        return {}
    formula = getattr(TORCHVISION.ops, name)
    return {"torchvision": formula, "torch.compile": torch.compile(formula)}


def _nms_peers(name: str, threshold: float) -> dict[str, Any]:
    if TORCHVISION is None:
        return {}
    return {"torchvision": partial(getattr(TORCHVISION.ops, name), iou_threshold=threshold)}


def measure(
    name: str, ours: Callable[..., Any], peers: dict[str, Any], inputs: list[Tensor], device: torch.device
) -> dict[str, Any]:
    """The figures of a row; raises AssertionError if our result is wrong."""
    there = [tensor.to(device) for tensor in inputs]
    for got, expected in zip(_tensors(ours(*there)), _tensors(ours(*inputs)), strict=True):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-5, atol=1e-5)
    row: dict[str, Any] = {"name": name, "visionops": figures(partial(ours, *there), device)}
    for peer, call in peers.items():
        try:
            row[peer] = figures(partial(call, *there), device)
        except Exception as error:  # a peer that cannot do the row does not stop it
            row[peer] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    return row


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
