"""Instruction sets: their names, and whether the one that VISIONOPS_ISA asks for is the one that runs."""

import os

NAMES = ("base", "v2", "v3", "v4")  # by the numbers of csrc/common/target.h


def check_forced(running: str) -> None:
    """Raise RuntimeError if the environment asks for another than this."""
    wanted = os.environ.get("VISIONOPS_ISA")
    if wanted is not None and wanted != running:
        raise RuntimeError(f"VISIONOPS_ISA: expected one that this machine runs, at most {running}, got {wanted!r}")
