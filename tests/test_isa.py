"""Every instruction set that the machine has gives the same results, bit for bit."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import visionops
from contract import DTYPES, arrays, cases_of, outputs, reference_of, tensors, to_numpy
from visionops import _native
from visionops._op import REGISTRY
from visionops.testing import compare

AVAILABLE = _native.ISAS[1 : _native.ISAS.index(_native.isa()) + 1]
ROOT = Path(__file__).parent.parent


visionops.__all__  # noqa: B018 (fills REGISTRY)

# Rooms of sums whose multiplications and additions are fused where the instruction set has that: equal in tolerance.
FUSED = ("conv",)


def digest() -> str:
    """A hash of the results of every operation on all its cases, gradients included."""
    hashed = hashlib.sha256()
    for public in REGISTRY.values():
        if public.room in FUSED:
            continue
        for case in cases_of(public):
            for dtype in DTYPES.values():
                args, kwargs = tensors(case, dtype)
                if public.op.differentiable:
                    args = [a.requires_grad_() if torch.is_tensor(a) and a.is_floating_point() else a for a in args]
                for tensor in outputs(public.function(*args, **kwargs)):
                    hashed.update(to_numpy(tensor).tobytes())
                    if tensor.requires_grad:
                        tensor.float().sum().backward()
                        for a in args:
                            if torch.is_tensor(a) and a.grad is not None:
                                hashed.update(to_numpy(a.grad).tobytes())
    return hashed.hexdigest()


@pytest.mark.parametrize("isa", AVAILABLE)
def test_same_results(isa: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_isa; print(test_isa.digest())"
    env = os.environ | {"VISIONOPS_ISA": isa}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == _expected()


def check_fused() -> None:
    """Compare every operation of the rooms that fuse, on all its cases, with its reference."""
    for public in REGISTRY.values():
        for case in cases_of(public) if public.room in FUSED else []:
            args, kwargs = tensors(case, torch.float32)
            given, options = arrays(args, kwargs)
            expected = reference_of(public)(*given, **options)
            compare(to_numpy(public.function(*args, **kwargs, backend="native")), expected, "float32", case.terms)


@pytest.mark.parametrize("isa", AVAILABLE)
def test_fused_results_agree(isa: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_isa; test_isa.check_fused()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"VISIONOPS_ISA": isa}, check=True)


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
