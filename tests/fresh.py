"""Processes in which nothing has run yet, to measure in: of memory that was freed, nobody knows who holds it."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path

import torch

import visionops

# To import torch takes longer than what is measured: one process does, and is forked each time.
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "visionops"])


def peak() -> float:
    """The megabytes that this process has held at most, without files: code that a call is the first to run."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    most, files = (int(status[name].removesuffix("kB")) for name in ("VmHWM", "RssFile"))
    return (most - files) / 1024


def printed(code: str) -> str:
    """What code prints where nothing has run; it finds torch, visionops as vo, and peak()."""
    with ProcessPoolExecutor(1, _CONTEXT) as pool:
        return pool.submit(_printed, code).result()


def _printed(code: str) -> str:
    with redirect_stdout(io.StringIO()) as output:
        exec(code, {"torch": torch, "vo": visionops, "peak": peak})
    return output.getvalue()
