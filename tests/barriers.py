"""The barriers of CUDA kernels on the emulated GPU: where they are, and whether a test notices that one is gone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent


def barriers_of(room: str) -> list[Any]:
    """File and line of every __syncthreads of a room, as parameters for pytest."""
    found = []
    for source in sorted((TESTS.parent / "csrc" / room).glob("*.cu*")):
        for number, line in enumerate(source.read_text().splitlines(), 1):
            if re.search(r"__syncthreads\(\)", line):
                found.append(pytest.param(source.name, number, id=f"{source.name}:{number}"))
    return found


def check_needed(file: str, line: int, setup: str, right: str) -> None:
    """Raise AssertionError unless, without this barrier, the expression `right` is false for one of eight seeds.

    It runs in a process of its own: what a block reads too early may be an index. `setup` runs before, all barriers
    in place.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); import torch\n"
        f"{setup}\n"
        f"torch.ops.visionops.emulation_skip_barrier({_place(file, line)})\n"
        "for seed in range(8):\n"
        "    torch.ops.visionops.emulation_seed(seed)\n"
        f"    if not ({right}): sys.exit('a result is wrong')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode != 0, "nothing notices that this barrier is gone"
    # Memory of nobody, a wrong result, or threads that wait for others in vain.
    assert run.returncode < 0 or re.search("is wrong|a barrier that some|AddressSanitizer", run.stderr), run.stderr


def _place(file: str, line: int) -> int:
    """The number that csrc/emulation/emulation.h gives a line."""
    number = line
    for character in file.encode():
        number = (number * 31 + character) % 2**40
    return number
