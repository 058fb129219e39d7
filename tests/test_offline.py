"""Triton kernels compile for chips that are not here, without spills, dividing and storing as they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
PROGRAM = Path(__file__).parent / "offline.py"


def compiled(*options: str) -> list[dict[str, Any]]:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, PROGRAM, *options], env=env, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout.splitlines()[-1])
    assert rows
    return rows  # type: ignore[no-any-return]


def check(row: dict[str, Any]) -> None:
    assert row["spilled_bytes"] == 0, row
    kind, *_, dtype = row["kernel"].split()
    if kind in ("matrix_kernel", "aligned_kernel") or row["kernel"].startswith("find_worst boxes"):
        # Quotients are values or decide here, and are rounded as every backend rounds them.
        assert row["rounded_divisions"] > 0 or dtype == "float64", row
    if kind == "matrix_kernel":
        assert row["wide_stores"] > 0, row


def test_forward_for_one_chip() -> None:
    for row in compiled("--chips", "90", "--kernels", "^matrix_kernel (iou|ciou) float32"):
        check(row)


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["80", "90", "100"])
def test_all_kernels(chip: str) -> None:
    for row in compiled("--chips", chip):
        check(row)
