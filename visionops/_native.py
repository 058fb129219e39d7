"""Finds and loads the compiled libraries, or says why not."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from visionops import _isa

_PACKAGE = Path(__file__).parent


def _load(file: str, needed: str) -> str | None:
    """Load one library; the reason if that fails."""
    path = _PACKAGE / file
    if not path.exists():
        return f"{file} was not built ({needed})"
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError as error:
        return f"{file} does not load: {error}"
    return None


# None, or why the library is absent.
WHY_NOT_CPU: str | None = _load("libvisionops.so", "install visionops with pip, or `make build` in its sources")
WHY_NOT_CUDA: str | None = (
    _load("libvisionops_cuda.so", "build with VISIONOPS_CUDA=1 where nvcc is")
    if torch.version.cuda
    else f"torch {torch.__version__} is built without CUDA"
)

# The CUDA kernels on an emulated GPU, for tests.
if emulation := os.environ.get("VISIONOPS_EMULATION"):
    torch.ops.load_library(emulation)  # type: ignore[no-untyped-call]


def isa() -> str:
    """The instruction set whose CPU kernels run: "v2", "v3", "v4" (x86-64 levels), "base" elsewhere, or "none"."""
    if WHY_NOT_CPU is not None:
        return "none"
    return _isa.NAMES[torch.ops.visionops.isa()]


if WHY_NOT_CPU is None:
    _isa.check_forced(isa())
