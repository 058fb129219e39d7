"""Backend: what can run an operation, why it cannot, and how those written in Python become torch operations."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from visionops import _native

if TYPE_CHECKING:
    from visionops._op import Op


@dataclass(frozen=True)
class Backend:
    """One implementation of an operation.

    Attributes:
        name: "native" for C++ and CUDA C++, "triton" for Triton, "aten" for torch's own, "emulated" in tests.
        why_not: Why it cannot run an operation for a device type and dtype, or None. It sees nothing else, so that the
            choice is made once for each and holds under tracing.
    """

    name: str
    why_not: Callable[[Op, str, torch.dtype], str | None]


def _native_why_not(op: Op, device: str, dtype: torch.dtype) -> str | None:
    if device in ("cpu", "meta"):  # of tensors without values, the shape rule
        return _native.WHY_NOT_CPU
    if device == "cuda":
        return _native.WHY_NOT_CUDA or (None if op.has_cuda_kernel else "it has no CUDA C++ kernel")
    return f"no kernel for device {device}"


def _triton_why_not(op: Op, device: str, dtype: torch.dtype) -> str | None:
    if not HAS_TRITON:
        return "triton is not installed"
    if device == "cpu":
        return None if INTERPRETED else "on the CPU it is only interpreted, with TRITON_INTERPRET=1"
    if device == "cuda":
        return None if torch.cuda.is_available() else "torch sees no GPU"
    return f"no kernel for device {device}"


def _emulated_why_not(op: Op, device: str, dtype: torch.dtype) -> str | None:
    return None if device == "cpu" else "it stands for a GPU on the CPU"


def _aten_why_not(op: Op, device: str, dtype: torch.dtype) -> str | None:
    return None


HAS_TRITON = find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# Rooms whose result is a decision: torch would trace into their Triton kernels and launch them with multiply and add
# fused, and another box might stay.
_DECISIONS = frozenset({"suppression"})

NATIVE = Backend("native", _native_why_not)
# The implementation is the function of the operation's name in visionops/<room>/triton_kernels.py.
TRITON = Backend("triton", _triton_why_not)
# Torch's own operation, where a vendor's library behind it wins: the function of the operation's name in
# visionops/<room>/aten.py.
ATEN = Backend("aten", _aten_why_not)
# The CUDA C++ kernels on an emulated GPU, for tests: every operation has it whose emulation is loaded.
EMULATED = Backend("emulated", _emulated_why_not)


def _in_room(module: str, name: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an operation's name in a module of its room, imported when it is first called."""
    room = fake.__module__.split(".")[1]

    def implementation(*args: Any) -> Any:
        return getattr(import_module(f"visionops.{room}.{module}"), name)(*args)

    # The schema is read from the signature, which is that of the shape rule.
    implementation.__signature__ = signature(fake, eval_str=True)  # type: ignore[attr-defined]
    return implementation


def define_triton(qualified: str, name: str, fake: Callable[..., Any]) -> None:
    """Register the Triton implementation of an operation, where it can run."""
    # Registering it imports triton, which takes longer than all else.
    if not (HAS_TRITON and (INTERPRETED or torch.cuda.is_available())):
        return
    # What is interpreted cannot be traced into, and what decides must not be.
    opaque = INTERPRETED or fake.__module__.split(".")[1] in _DECISIONS
    register = torch.library.custom_op if opaque else torch.library.triton_op
    register(qualified, _in_room("triton_kernels", name, fake), mutates_args=())


_ATEN_LIBRARY = torch.library.Library("visionops", "FRAGMENT")  # type: ignore[no-untyped-call]


def define_aten(operation: str, name: str, fake: Callable[..., Any]) -> None:
    """Register torch's implementation of an operation."""
    # A custom_op would cost as much as a small convolution.
    implementation = _in_room("aten", name, fake)
    if not hasattr(torch.ops.visionops, operation):  # the library may have it, with a kernel for the CPU
        schema = operation + torch.library.infer_schema(implementation, mutates_args=())
        _ATEN_LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    _ATEN_LIBRARY.impl(operation, implementation, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
