"""A run repeated in fresh processes: where memory lies, and what was paid for it, is drawn anew for each of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.row import Record

Run = dict[str, Any]


def repeat(arguments: list[str], threads: int, times: int) -> tuple[list[Run], int]:
    """What `python -m benchmarks` with these arguments measured each time, and the worst of its exit codes."""
    runs, worst = [], 0
    for _ in range(times):
        with TemporaryDirectory() as directory:
            command = [sys.executable, "-m", "benchmarks", *arguments, f"--threads={threads}", f"--output={directory}"]
            worst = max(worst, subprocess.run(command, check=False).returncode)
            runs += [json.loads(path.read_text()) for path in Path(directory, "results").glob("*.json")]
    return runs, worst


def middle(runs: list[Run]) -> list[Record]:
    """Of each row the record of one process: the one in which its speed-up is the median, with the range of all.

    A row that was wrong in any process is wrong.
    """
    return [_middle(records) for records in zip(*(run["rows"] for run in runs), strict=True)]


def _middle(records: tuple[Record, ...]) -> Record:
    for record in records:
        if "red" in record:
            return record
    timed = [name for name, peer in records[0]["peers"].items() if all("median" in r["peers"][name] for r in records)]
    ratios = {name: [r["peers"][name]["median"] / r["ours"]["median"] for r in records] for name in timed}
    # What is asked is asked over a peer: that one decides.
    decisive = next((name for name in (*records[0]["asked"], *timed) if name in timed), None)
    order = ratios[decisive] if decisive else [-r["ours"]["median"] for r in records]
    chosen = records[order.index(sorted(order)[len(order) // 2])]
    for name in timed:
        chosen["peers"][name]["range"] = [min(ratios[name]), max(ratios[name])]
    return chosen
