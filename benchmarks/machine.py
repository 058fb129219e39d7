"""What the figures were measured on: the header of every result."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import visionops
from benchmarks import peers, roofs
from visionops import _native

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def describe(threads: int) -> dict[str, Any]:
    """Names, versions and settings, and the rates that this run saw before its rows."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "isa": _native.isa(),
        "huge_pages": _huge_pages(),
        "load": round(os.getloadavg()[0], 2),
        "copy_gb_s": round(roofs.copy_bandwidth(), 1),
        "fresh_gb_s": round(roofs.fresh_bandwidth(), 1),
        "gemm_gflop_s": round(roofs.gemm_rate()),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "visionops": visionops.__version__,
        "torch": torch.__version__,
        "peers": {name: peers.VERSIONS[name] for name in ("torchvision", "OpenCV") if peers.VERSIONS[name]},
        "absent": peers.absent(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _huge_pages() -> str:
    """The setting in brackets: always, madvise or never."""
    if not _HUGE_PAGES.exists():
        return "unknown"
    return _HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]


def _commit() -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
