"""Vision operations for PyTorch with compiled kernels: the contents page.

Each room's own page lists its operations. Rooms are imported on first use, so that `visionops.numpy` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionops.boxes import *
    from visionops.conv import *
    from visionops.norm import *
    from visionops.pool import *
    from visionops.roi import *
    from visionops.suppression import *

ROOMS = ("boxes", "conv", "norm", "pool", "roi", "suppression")
_SUBPACKAGES = ("nn", "numpy", "testing", *ROOMS)

__version__ = "0.1.0"


def _operations() -> dict[str, Any]:
    if find_spec("torch") is None:
        raise ModuleNotFoundError("visionops needs torch; visionops.numpy has the operations that do not", name="torch")
    rooms = [import_module(f"visionops.{room}") for room in ROOMS]
    return {name: getattr(room, name) for room in rooms for name in room.__all__}


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"visionops.{name}")
    if name == "__all__":
        return sorted(_operations())
    if not name.startswith("_"):
        globals().update(_operations())
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module 'visionops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *_operations()})
