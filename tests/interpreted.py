"""Triton's interpreter made quicker: what it does anew at every call within a kernel, and always with one result.

It replaces functions of its language in every function that a kernel calls, which it searches for them; it describes
the shape of every block by objects of its own for each dimension; and it looks for integers that overflow by a dozen
of its own operations for each one.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter


@cache
def _builtins(package: Any) -> list[tuple[str, Any]]:
    return [(name, member) for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]


def _patch_builtin(package: Any, *rest: Any) -> None:
    for name, member in _builtins(package):
        # What the kernel's launch has replaced stays.
        if getattr(package, name) is member:
            interpreter._patch_attr(package, name, member, *rest)


@cache
def _languages(function: Any) -> list[Any]:
    return [value for value in function.__globals__.values() if value is tl or value is tl.core]


_patch_lang = interpreter._patch_lang


def _patch_lang_once(function: Any) -> Any:
    """Nothing to replace, nor to restore, for a function within a kernel whose launch has done it."""
    is_replaced = not any(tl.core.is_builtin(language.load) for language in _languages(function))
    return interpreter._LangPatchScope() if is_replaced else _patch_lang(function)


_init_block, _init_tensor = tl.core.block_type.__init__, tl.core.tensor.__init__
# By sizes: a block's shape, the number of its elements and its name without theirs; a tensor's shape and number.
_BLOCKS: dict[tuple[int, ...], tuple[Any, int, str]] = {}
_TENSORS: dict[tuple[int, ...], tuple[Any, Any]] = {}


def _init_block_once(self: Any, element_ty: Any, shape: Any) -> None:
    sizes = tuple(size.value if isinstance(size, tl.constexpr) else size for size in shape)
    if sizes not in _BLOCKS:
        _init_block(self, element_ty, shape)
        _BLOCKS[sizes] = self.shape, self.numel, str(self.shape)
    self.element_ty = element_ty
    self.shape, self.numel, name = _BLOCKS[sizes]
    self.name = f"<{name}, {element_ty}>"


def _init_tensor_once(self: Any, handle: Any, type: Any) -> None:
    sizes = tuple(type.shape.values) if type.is_block() else ()
    if sizes not in _TENSORS:
        _init_tensor(self, handle, type)
        _TENSORS[sizes] = self.shape, self.numel
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.shape, self.numel = _TENSORS[sizes]


_equal = tl.core.tuple.__eq__


def _equal_sizes(self: Any, other: Any) -> Any:
    others = other.values if isinstance(other, tl.core.tuple) else other
    if isinstance(others, list) and all(type(size) is int for size in (*self.values, *others)):
        return tl.constexpr(self.values == others)
    return _equal(self, other)


_find_np_dtype = interpreter._get_np_dtype
_NP_DTYPES: dict[str, Any] = {}


def _find_np_dtype_once(dtype: Any) -> Any:
    name = dtype.scalar.name
    if name not in _NP_DTYPES:
        _NP_DTYPES[name] = _find_np_dtype(dtype)
    return _NP_DTYPES[name]


_broadcast = TritonSemantic.broadcast_impl_value


def _broadcast_unless_alike(self: Any, lhs: Any, rhs: Any) -> Any:
    if lhs.type.is_block() and rhs.type.is_block() and lhs.type.shape is rhs.type.shape:
        return lhs, rhs
    return _broadcast(self, lhs, rhs)


_EXACT = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def _check_overflow(self: Any, lhs: Any, rhs: Any, operation: Any) -> None:
    dtype = lhs.type.scalar
    if dtype.int_bitwidth < 64:
        exact = _EXACT[operation.__name__](lhs.handle.data, rhs.handle.data, dtype=np.int64)
        assert exact.min() >= dtype.get_int_min_value(), f"{dtype} overflow in {operation.__name__}"
        assert exact.max() <= dtype.get_int_max_value(), f"{dtype} overflow in {operation.__name__}"


def quicken() -> None:
    """From now on the interpreter keeps what it found at first."""
    interpreter._patch_builtin = _patch_builtin
    interpreter._patch_lang = _patch_lang_once
    tl.core.block_type.__init__ = _init_block_once
    tl.core.tensor.__init__ = _init_tensor_once
    tl.core.tuple.__eq__ = _equal_sizes
    interpreter._get_np_dtype = _find_np_dtype_once
    TritonSemantic.broadcast_impl_value = _broadcast_unless_alike
    TritonSemantic.binary_op_sanitize_overflow_impl = _check_overflow
