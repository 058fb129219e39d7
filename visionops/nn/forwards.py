"""Reading a module's forward: torch.fx follows calls, and is silent about all else that Python does there."""

from __future__ import annotations

import ast
import builtins
import inspect
from functools import cache
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from torch.overrides import get_overridable_functions


class UnfollowableError(Exception):
    """Why a forward stays as it is."""


# What depends on nothing but the module, if its arguments do, and may decide which way a forward goes.
_FIXED = {len, range, enumerate, zip, isinstance, hasattr, getattr, min, max, int, float, bool, str, list, tuple, dict}
_FIXED |= {set, reversed, sorted, any, all, sum, callable, type}
_FIXED |= {torch.jit.is_scripting, torch.jit.is_tracing}  # type: ignore[attr-defined]
_FIXED_METHODS = {"items", "values", "keys", "children", "named_children", "get"}
_CONTAINERS = {list, tuple, dict, zip, enumerate, reversed, sum}
_NEW = (ast.List, ast.Dict, ast.ListComp, ast.DictComp)
_CHANGES_OF_CONTAINERS = {"append", "extend", "insert", "pop", "remove", "clear", "update"}
# What runs other code than the calls that are seen, or at another time.
_REFUSED = (
    *(ast.With, ast.AsyncWith, ast.Try, ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Yield),
    *(ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Delete, ast.Import, ast.ImportFrom, ast.NamedExpr),
)


@cache
def _recorded() -> frozenset[Any]:
    """The functions that torch.fx writes down when an argument is a tensor that it follows."""
    # Some of these are missing among the overridable ones.
    functional = {function for function in vars(nn.functional).values() if isinstance(function, FunctionType)}
    return frozenset(functional.union(*get_overridable_functions().values()))


def check_forward(module: nn.Module) -> None:
    """Raise UnfollowableError where what torch.fx records of a forward might not be all that it does.

    Which way it goes may depend on the module alone, and it may do nothing but call modules, torch's functions, and
    functions of which the same is true.
    """
    _Reader(type(module).forward, module, set()).read()


class _Reader(ast.NodeVisitor):
    """Reads one function, and those that it calls."""

    def __init__(self, function: Any, owner: nn.Module | None, seen: set[Any]) -> None:
        """`owner` is the module whose method it is; `seen` are the functions read already."""
        self.function, self.owner, self.seen = function, owner, seen
        self.definition = _definition(function)
        arguments = self.definition.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        self.names = vars(builtins) | function.__globals__ | _closure(function)
        self.own = names[0] if owner is not None and names else None
        self.arguments = {*names, *(a.arg for a in (arguments.vararg, arguments.kwarg) if a)} - {self.own}
        self.varying = set(self.arguments)  # names of what is not the module's alone
        self.aliases = set(self.arguments)  # names of containers that others may have

    def read(self) -> None:
        """Raise if there is anything that torch.fx would not see."""
        if self.function in self.seen:
            return
        self.seen.add(self.function)
        body = self.definition.body
        steps = body if isinstance(body, list) else [body]
        # A name varies if anything assigned to it does, wherever that stands.
        before = None
        while before != len(self.varying):
            before = len(self.varying)
            for step in steps:
                self._spread(step)
        for step in steps:
            self.visit(step)

    def _spread(self, step: ast.AST) -> None:
        for node in ast.walk(step):
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                value = node.value
            elif isinstance(node, (ast.For, ast.comprehension)):
                targets, value = [node.target], node.iter
            else:
                continue
            names = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)} - {self.own}
            if value is not None and not self._is_fixed(value):
                self.varying |= names
            if not isinstance(value, _NEW) and not (isinstance(value, ast.Call) and self._makes(value)):
                self.aliases |= names

    def _is_fixed(self, node: ast.AST) -> bool:
        """Whether an expression depends on the module alone."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in self.varying:
                return False
            if isinstance(part, ast.Call) and not self._is_fixed_call(part):
                return False
        return True

    def _is_fixed_call(self, node: ast.Call) -> bool:
        called = self._object(node.func)
        if called is None or not _is_hashable(called):
            return False
        if isinstance(node.func, ast.Attribute) and node.func.attr in _FIXED_METHODS:
            return True
        return called in _FIXED

    def _object(self, node: ast.AST) -> Any:
        """What an expression stands for, if it can be told without calling anything."""
        if isinstance(node, ast.Name):
            if node.id == self.own:
                return self.owner
            return None if node.id in self._locals() else self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            of = self._object(node.value)
            return None if of is None or isinstance(of, torch.Tensor) else getattr(of, node.attr, None)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            holder = self._object(node.value)
            if isinstance(holder, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
                return dict(holder.named_children()).get(str(node.slice.value))
        return None

    def _locals(self) -> set[str]:
        code = self.function.__code__
        return {*code.co_varnames, *code.co_cellvars}

    def refuse(self, node: ast.AST, why: str) -> None:
        """Say what it is that cannot be followed."""
        raise UnfollowableError(f"{why}, in {self.function.__qualname__}: {ast.unparse(node).splitlines()[0]}")

    def visit(self, node: ast.AST) -> None:
        """Every step and expression."""
        if isinstance(node, _REFUSED):
            self.refuse(node, "torch.fx does not follow this")
        if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)) and not self._is_fixed(node.test):
            self.refuse(node.test, "it depends on the input")
        if isinstance(node, ast.comprehension) and not all(map(self._is_fixed, node.ifs)):
            self.refuse(node.ifs[0], "it depends on the input")
        super().visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops) and not self._is_fixed(node):
            self.refuse(node, "it depends on the input")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._check_target(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._check_target(node.target)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._check_target(node.target)
        if node.value is not None:
            self.visit(node.value)  # annotations are never run

    def _check_target(self, target: ast.expr) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self._check_target(part)
        elif isinstance(target, ast.Subscript):
            if not self._is_new(target.value):
                self.refuse(target, "it writes what others see")
        elif not isinstance(target, ast.Name):
            self.refuse(target, "it writes what others see")

    def _makes(self, node: ast.Call) -> bool:
        called = self._object(node.func)
        return isinstance(called, type) and issubclass(called, (list, dict))

    def _is_new(self, node: ast.AST) -> bool:
        """Whether it is a name for a container that this function made."""
        return isinstance(node, ast.Name) and node.id in self._locals() - self.aliases

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if not isinstance(node.value, ast.Call):
            self.refuse(node, "torch.fx does not follow this")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self._check_call(node)
        self.generic_visit(node)

    def _check_call(self, node: ast.Call) -> None:
        if self._is_fixed_call(node) and self._is_fixed(node):
            return
        called = self._object(node.func)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if called is None:
            if isinstance(node.func, ast.Attribute) and not self._is_fixed(node.func.value):
                # A tensor's method, or that of a list; either may be known by another name.
                if node.func.attr in _CHANGES_OF_CONTAINERS and not self._is_new(node.func.value):
                    self.refuse(node, "it writes what others see")
            elif not self._is_fixed(node.func):
                self.refuse(node, "it depends on the input what is called")
            return  # else one of the module's parts
        if isinstance(called, nn.Module) or (_is_hashable(called) and called in _CONTAINERS):
            return
        if _is_hashable(called) and called in _recorded():
            if all(map(self._is_fixed, arguments)):
                self.refuse(node, "torch.fx would call this once")
        elif isinstance(called, (FunctionType, MethodType)) and not called.__module__.startswith("torch."):
            owner: Any = called.__self__ if isinstance(called, MethodType) else None
            if owner is not None and not isinstance(owner, nn.Module):
                self.refuse(node, "torch.fx does not follow this")
            _Reader(getattr(called, "__func__", called), owner, self.seen).read()
        elif not (isinstance(called, type) and issubclass(called, (tuple, list, dict))):
            self.refuse(node, "torch.fx does not follow this")


def _is_hashable(value: Any) -> bool:
    return type(value).__hash__ is not None


def _closure(function: Any) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    return {name: cell.cell_contents for name, cell in cells}


def _definition(function: Any) -> ast.FunctionDef | ast.Lambda:
    """Where it is written: the one function that begins at its line."""
    if not isinstance(function, FunctionType):
        raise UnfollowableError("its forward is not a function of Python")
    try:
        path = inspect.getsourcefile(function)
        tree = _tree(path or "")
    except (OSError, TypeError, SyntaxError):
        raise UnfollowableError("the source of its forward cannot be read") from None
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            if (decorators[0] if decorators else node).lineno == function.__code__.co_firstlineno:
                found.append(node)
    if len(found) != 1:
        raise UnfollowableError("the source of its forward cannot be read")
    return found[0]


@cache
def _tree(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))
