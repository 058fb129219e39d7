"""How a case becomes a call: tensors of the dtype under test for the operation, rounded arrays for its reference."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

from visionops._op import Public
from visionops.testing import Case

DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def cases_of(public: Public) -> list[Case]:
    """The cases of a public operation, smallest first."""
    return getattr(import_module(f"visionops.{public.room}.cases"), public.function.__name__)()  # type: ignore[no-any-return]


def reference_of(public: Public) -> Any:
    """The NumPy reference of a public operation."""
    return getattr(import_module(f"visionops.{public.room}.reference"), public.function.__name__)


def has_floats(case: Case) -> bool:
    """Whether the dtype under test changes anything."""
    return any(_is_float(value) for value in (*case.args, *case.kwargs.values()))


def first_smooth(public: Public) -> Case:
    """The first case whose float arrays all hold something: small, and made to have no ties."""
    return next(
        case for case in cases_of(public) if has_floats(case) and all(a.size for a in case.args if _is_float(a))
    )


def tensors(case: Case, dtype: torch.dtype, device: str = "cpu") -> tuple[list[Any], dict[str, Any]]:
    """Arguments for the operation."""

    def convert(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        tensor = torch.from_numpy(value.copy()).to(device)
        return tensor.to(dtype) if _is_float(value) else tensor

    return [convert(a) for a in case.args], {k: convert(v) for k, v in case.kwargs.items()}


def arrays(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for the reference: what the operation saw, bfloat16 as float32."""

    def convert(value: Any) -> Any:
        return to_numpy(value) if isinstance(value, torch.Tensor) else value

    return [convert(a) for a in args], {k: convert(v) for k, v in kwargs.items()}


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor's values, bfloat16 widened."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def outputs(result: Any) -> tuple[torch.Tensor, ...]:
    """The tensors an operation returned."""
    return result if isinstance(result, tuple) else (result,)


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float64
