"""Where each operation is tested, and how a case becomes a call: tensors for it, rounded arrays for its reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import visionops
from visionops._backend import EMULATED, TRITON, Backend
from visionops._op import REGISTRY, Public
from visionops.testing import Case

visionops.__all__  # noqa: B018 (fills REGISTRY)

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@dataclass(frozen=True)
class Target:
    """An operation on one of its backends, on one device."""

    public: Public
    backend: Backend
    device: str

    def __str__(self) -> str:
        return f"{self.public.function.__name__}-{self.backend.name}-{self.device}"

    @property
    def why_not(self) -> str | None:
        """Why it cannot run here, or None."""
        return self.backend.why_not(self.public.op, self.device, torch.float32)

    @property
    def is_interpreted(self) -> bool:
        """Whether Triton's interpreter runs it, in milliseconds a call at least."""
        return self.backend is TRITON and self.device == "cpu"

    @property
    def ran_on(self) -> tuple[str, str, str]:
        """What to record of a test that passed: operation, the table's column, and where it ran."""
        name = self.public.function.__name__
        if self.backend is EMULATED:
            return name, "native", "cuda emulated"
        return name, self.backend.name, "interpreter" if self.is_interpreted else self.device

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.public.function(*args, **kwargs, backend=self.backend.name)


TARGETS = [
    Target(public, backend, device)
    for public in REGISTRY.values()
    for backend in public.op.backends
    for device in DEVICES
]


def targets(*, differentiable: bool = False, emulated: bool = True, without: tuple[str, ...] = ()) -> list[Any]:
    """Parameters for pytest: every target, skipped with its own reason where it cannot run."""
    return [
        pytest.param(target, id=str(target), marks=pytest.mark.skip(target.why_not) if target.why_not else ())
        for target in TARGETS
        if not (differentiable and not target.public.op.differentiable)
        and (emulated or target.backend is not EMULATED)
        and target.public.function.__name__ not in without
    ]


DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@cache
def cases_of(public: Public) -> list[Case]:
    """The cases of a public operation, smallest first."""
    return getattr(import_module(f"visionops.{public.room}.cases"), public.function.__name__)()  # type: ignore[no-any-return]


def reference_of(public: Public) -> Any:
    """The NumPy reference of a public operation."""
    return getattr(import_module(f"visionops.{public.room}.reference"), public.function.__name__)


def has_floats(case: Case) -> bool:
    """Whether the dtype under test changes anything."""
    return any(_is_float(value) for value in _values(case))


def first_smooth(public: Public) -> Case:
    """The first case whose float arrays all hold something: small, and made to have no ties."""
    return next(
        case for case in cases_of(public) if has_floats(case) and all(a.size for a in _values(case) if _is_float(a))
    )


def tensors(case: Case, dtype: torch.dtype, device: str = "cpu") -> tuple[list[Any], dict[str, Any]]:
    """Arguments for the operation."""

    def convert(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(convert, value))
        if not isinstance(value, np.ndarray):
            return value
        tensor = torch.from_numpy(value.copy()).to(device)
        return tensor.to(dtype) if _is_float(value) else tensor

    return [convert(a) for a in case.args], {k: convert(v) for k, v in case.kwargs.items()}


def arrays(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for the reference: what the operation saw, bfloat16 as float32."""

    def convert(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(convert, value))
        return to_numpy(value) if isinstance(value, torch.Tensor) else value

    return [convert(a) for a in args], {k: convert(v) for k, v in kwargs.items()}


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor's values, bfloat16 widened."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def outputs(result: Any) -> tuple[Any, ...]:
    """The tensors or arrays that an operation returned."""
    return result if isinstance(result, tuple) else (result,)


def _values(case: Case) -> list[Any]:
    """All arguments, those of a list one by one."""
    values = (*case.args, *case.kwargs.values())
    return [v for value in values for v in (value if isinstance(value, list) else [value])]


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64


class Recorder(TorchDispatchMode):
    """Keeps the calls of this library's torch operations."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "visionops":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))
