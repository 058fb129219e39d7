"""The libraries compared with: which are installed, their versions and their threads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch


def _find(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        return None


TORCHVISION = _find("torchvision")
CV2 = _find("cv2")

# A row names its peers by these; "torch" is the eager formula a user would write, "torch.compile" the same compiled.
VERSIONS: dict[str, str | None] = {
    "torchvision": TORCHVISION and TORCHVISION.__version__,
    "OpenCV": CV2 and CV2.__version__,
    "torch": torch.__version__,
    "torch.compile": torch.__version__,
}


def absent() -> list[str]:
    """The peers that are not installed, whose columns the table lacks."""
    return [name for name, version in VERSIONS.items() if version is None]


def set_threads(threads: int) -> None:
    """The same number of threads for everyone; before the first parallel work."""
    torch.set_num_threads(threads)
    if CV2 is not None:
        CV2.setNumThreads(threads)
