"""What every test sees: names for docstring examples, draws and memory that do not depend on others, GPU kernels."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

# Of several processes each has one thread, for more would wait for each other; tests of threads ask for theirs.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

# What a run draws, every run draws; where tests run on a GPU it may be absent.
if find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("visionops", derandomize=True)
    settings.load_profile("visionops")

EMULATION = Path(__file__).parent / "build/emulation/libvisionops_emulated.so"

# visionops loads it with its other libraries: the CUDA kernels are tested wherever it was built.
if EMULATION.exists():
    os.environ.setdefault("VISIONOPS_EMULATION", str(EMULATION))

# Triton reads it when it is first imported, visionops when it first registers an operation.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    if find_spec("triton"):
        from interpreted import quicken

        quicken()


@pytest.fixture(autouse=True, scope="session")
def names_in_examples(doctest_namespace: dict[str, object]) -> None:
    """Docstring examples are written as in a user's file that has these imports."""
    doctest_namespace["torch"] = torch
    doctest_namespace["np"] = np


def pytest_runtest_setup() -> None:
    """A test draws the same numbers whatever ran before it, and finds NaN or the largest integer in new tensors.

    So an element that nobody writes fails its comparison.
    """
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
