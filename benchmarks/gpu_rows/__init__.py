"""What a row on a GPU is; the rows themselves, a module per room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class GpuRow:
    """A call, its peers and the inputs that both work on.

    Attributes:
        name: As in the CPU's table where it has the row.
        ours: The call under test, of the inputs; its result on a GPU is compared with that on the CPU.
        peers: By their names in `benchmarks.peers.VERSIONS`, or "cuDNN"; of the same inputs.
        inputs: On the CPU; they are moved, their memory format kept.
        tolerance: Relative and absolute, where the result is rounded otherwise on a GPU.
    """

    name: str
    ours: Callable[..., Any]
    peers: dict[str, Callable[..., Any]]
    inputs: list[Tensor]
    tolerance: float = 1e-5
