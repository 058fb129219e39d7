"""Every instruction set that the machine has gives the same results: bit for bit where they are decisions."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import visionops
from contract import DTYPES, cases_of, outputs, tensors, to_numpy
from visionops import _native
from visionops._op import REGISTRY
from visionops.testing import compare

visionops.__all__  # noqa: B018 (fills REGISTRY)

AVAILABLE = _native.ISAS[1 : _native.ISAS.index(_native.isa()) + 1]
ROOT = Path(__file__).parent.parent


# Rooms whose result is no decision fuse multiply and add where the machine can: a rounding may differ there.
ROUNDED = {"roi"}
DECIDED = {public.room for public in REGISTRY.values()} - ROUNDED
SUMMED = 100  # terms of a gradient, about


def results(rooms: set[str]) -> Iterator[tuple[str, str, torch.Tensor, int]]:
    """Name, dtype, value and summed terms of all results of these rooms' operations, gradients included."""
    for name in visionops.__all__:
        public = REGISTRY[name]
        if public.room not in rooms:
            continue
        for case in cases_of(public):
            for dtype_name, dtype in DTYPES.items():
                label = f"{name}-{case.name}-{dtype_name}"
                args, kwargs = tensors(case, dtype)
                if public.op.differentiable:
                    args = [a.requires_grad_() if torch.is_tensor(a) and a.is_floating_point() else a for a in args]
                for tensor in outputs(public.function(*args, **kwargs)):
                    yield label, dtype_name, tensor, case.terms
                    if tensor.requires_grad:
                        tensor.float().sum().backward()
                        for i, a in enumerate(args):
                            if torch.is_tensor(a) and a.grad is not None:
                                yield f"{label}-gradient-{i}", dtype_name, a.grad, SUMMED


def digest() -> str:
    """A hash of the results of every operation that decides."""
    hashed = hashlib.sha256()
    for _, _, tensor, _ in results(DECIDED):
        hashed.update(to_numpy(tensor).tobytes())
    return hashed.hexdigest()


def save(path: str) -> None:
    """Write the results of the other operations, in their order."""
    np.savez(path, *[to_numpy(tensor) for _, _, tensor, _ in results(ROUNDED)])


def _run(isa: str, call: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_isa; print(test_isa.{call})"
    env = os.environ | {"VISIONOPS_ISA": isa}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("isa", AVAILABLE)
def test_same_decisions(isa: str) -> None:
    assert _run(isa, "digest()").strip() == _expected()


@pytest.mark.parametrize("isa", AVAILABLE[:-1])
def test_same_but_for_rounding(isa: str, tmp_path: Path) -> None:
    _run(isa, f"save({str(tmp_path / 'results.npz')!r})")
    with np.load(tmp_path / "results.npz") as there:
        for key, (name, dtype, here, terms) in zip(there.files, results(ROUNDED), strict=True):
            try:
                compare(there[key].astype(np.float64), to_numpy(here).astype(np.float64), dtype, terms)
            except AssertionError as error:
                raise AssertionError(name) from error


def _expected() -> str:
    global _cached
    if _cached is None:
        _cached = digest()
    return _cached


_cached: str | None = None


def test_forcing_an_unknown_one_is_an_error() -> None:
    env = os.environ | {"VISIONOPS_ISA": "v9"}
    run = subprocess.run(
        [sys.executable, "-c", "import visionops; visionops.nms"], env=env, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "VISIONOPS_ISA: expected one that this machine runs" in run.stderr


def test_kernels_share_no_weak_symbol() -> None:
    # The linker keeps one of equal weak symbols: a v2 kernel might then run the v4 copy.
    objects = [path for isa in AVAILABLE for path in (ROOT / "build").glob(f"*/CMakeFiles/kernels_{isa}.dir/**/*.o")]
    if not objects:
        pytest.skip("the kernels' object files are not in build/")
    for path in objects:
        isa = re.search(r"kernels_(\w+)\.dir", str(path)).group(1)  # type: ignore[union-attr]
        listing = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
        # DW.ref. is a pointer into the C++ runtime, the same in every copy.
        weak = [line for line in listing.splitlines() if re.match(r"\S+ [VWu] (?!DW\.ref\.)", line)]
        weak = [line for line in weak if f"::{isa}::" not in line]
        assert weak == [], path
