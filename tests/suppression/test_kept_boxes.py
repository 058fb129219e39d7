"""The bound by which the CPU kernel looks at few cells of kept boxes is wide enough, rounding included."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_no_suppressor_is_in_a_cell_that_is_not_visited(tmp_path: Path) -> None:
    program = tmp_path / "kept_boxes_bound"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-DVISIONOPS_ISA=base", f"-I{HERE.parent.parent / 'csrc'}"]
    subprocess.run([COMPILER, *flags, HERE / "kept_boxes_bound.cpp", "-o", program], check=True)  # type: ignore[list-item]
    run = subprocess.run([program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
