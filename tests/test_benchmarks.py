"""The benchmark suite's own bookkeeping; what it measures it gates itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rich", reason="the benchmarks are not installed")
pytest.importorskip("matplotlib", reason="the benchmarks are not installed")

from benchmarks import processes, report
from benchmarks.row import FULL, Row, measure

NUMBERS = ("cores", "load", "copy_gb_s", "fresh_gb_s", "gemm_gflop_s")
TEXTS = ("isa", "huge_pages", "visionops", "torch", "python", "date", "commit")


def _machine() -> dict[str, Any]:
    described = dict.fromkeys(NUMBERS, 1.0) | dict.fromkeys(TEXTS, "some")
    return described | {"cpu": "A (R) CPU @ 2.0", "threads": 1, "peers": {}, "absent": []}


def _record(ours: float) -> dict[str, Any]:
    times = {"p10": ours, "p90": ours, "rounds": 3, "iterations": 1}
    peer = {"median": 1.0, **times, "differences": 0}
    shared = {"gate": "reference", "asked": {"torch": 2.0}, "serial": False}
    return {"name": "ROW", "ours": {"median": ours, **times}, "peers": {"torch": peer}, **shared}


def test_of_several_processes_the_middle_one_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    medians = iter((0.25, 0.125, 0.5))

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        (output,) = (word.removeprefix("--output=") for word in command if word.startswith("--output="))
        report.write(Path(output), _machine(), [_record(next(medians))])
        return subprocess.CompletedProcess(command, 0)

    # Not the function itself: matplotlib looks for fonts by it.
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(run=run))
    runs, code = processes.repeat(["ROW"], 1, 3)
    assert code == 0
    (row,) = processes.middle(runs)
    assert row["ours"]["median"] == 0.25
    assert row["peers"]["torch"]["range"] == [2, 8]


def test_nothing_is_timed_while_torch_fills_every_new_tensor() -> None:
    """As it does for tests: once it did for the benchmarks too, and they timed the filling."""
    with pytest.raises(RuntimeError, match="use_deterministic_algorithms"):
        measure(Row("ROW", lambda: pytest.fail("made")), None, FULL)
