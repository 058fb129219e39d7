"""Every instruction set that the machine has gives the same results: bit for bit where they are decisions."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contract import DTYPES, cases_of, outputs, tensors, to_numpy
from visionops import _isa, _native
from visionops._op import REGISTRY
from visionops.testing import TOLERANCE, compare

AVAILABLE = _isa.NAMES[1 : _isa.NAMES.index(_native.isa()) + 1]
ROOT = Path(__file__).parent.parent


# Rooms whose result is a decision; elsewhere products and sums are fused where the instruction set can.
EXACT = ("boxes", "suppression")
ESTIMATES = ("running_mean", "running_var")  # have no gradient
SUMMED = 100  # terms of a gradient, about, if no more elements of the result share it


def results() -> dict[str, Any]:
    """What every operation returns on all its cases, gradients included, named by room, dtype, terms and case.

    A case meets one wide and one narrow dtype, by turns.
    """
    found = {}
    for name, public in REGISTRY.items():
        for place, case in enumerate(cases_of(public)):
            for dtype in list(DTYPES.values())[place % 2 :: 2]:
                args, kwargs = tensors(case, dtype)
                if public.op.differentiable:
                    for a, parameter in zip(args, signature(public.function).parameters, strict=False):
                        if torch.is_tensor(a) and a.is_floating_point() and parameter not in ESTIMATES:
                            a.requires_grad_()
                values = []
                for tensor in outputs(public.function(*args, **kwargs)):
                    values.append((tensor, case.terms))
                    if tensor.requires_grad:
                        tensor.float().sum().backward()
                        grads = [a.grad for a in args if torch.is_tensor(a) and a.grad is not None]
                        # Two rounded sums are compared.
                        shared = [2 * tensor.numel() // max(grad.numel(), 1) for grad in grads]
                        values += [(g, max(case.terms, SUMMED, n)) for g, n in zip(grads, shared, strict=True)]
                for i, (value, terms) in enumerate(values):
                    kind = str(value.dtype).removeprefix("torch.")
                    found[f"{public.room} {kind} {terms} {name} {case.name} {dtype} {i}"] = to_numpy(value)
    return found


@pytest.mark.parametrize("isa", AVAILABLE[:-1])  # the last one is in use
def test_same_results(isa: str, tmp_path: Path) -> None:
    code = (
        f"import pickle, sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_isa\n"
        f"pickle.dump(test_isa.results(), open({str(tmp_path / 'results')!r}, 'wb'))"
    )
    env = os.environ | {"VISIONOPS_ISA": isa}
    subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    actual, expected = pickle.loads((tmp_path / "results").read_bytes()), _expected()
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        room, dtype, terms, *_ = key.split(" ")
        if room in EXACT or dtype not in TOLERANCE:
            assert actual[key].tobytes() == value.tobytes(), key
        else:
            compare(actual[key].astype(np.float64), value.astype(np.float64), dtype, int(terms))


@cache
def _expected() -> dict[str, Any]:
    return results()


@pytest.mark.parametrize("code", ["import visionops; visionops.nms", "import visionops.numpy"])
def test_forcing_an_unknown_one_is_an_error(code: str) -> None:
    env = os.environ | {"VISIONOPS_ISA": "v9"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
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
