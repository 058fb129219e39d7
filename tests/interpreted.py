"""Triton's interpreter made quicker: it searches its language for what to replace in every call within a kernel.

What it finds is always the same, and to search takes longer than most of the functions that are called.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import triton.language as tl
from triton.runtime import interpreter


@cache
def _builtins(package: Any) -> list[tuple[str, Any]]:
    return [(name, member) for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]


def _patch_builtin(package: Any, *rest: Any) -> None:
    for name, member in _builtins(package):
        # What the kernel's launch has replaced stays.
        if getattr(package, name) is member:
            interpreter._patch_attr(package, name, member, *rest)


def search_once() -> None:
    """From now on the interpreter replaces what it found at first."""
    interpreter._patch_builtin = _patch_builtin
