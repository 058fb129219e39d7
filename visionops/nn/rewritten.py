"""A module whose forward was rewritten: a class of its own, which copies, pickles and knows when it no longer fits."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, cast

from torch import fx, nn


def is_rewritten(module: nn.Module) -> bool:
    """Whether its forward was rewritten before."""
    return hasattr(type(module), "rewritten_from")


def rewrite(module: nn.Module, graph: fx.Graph) -> None:
    """Make a graph the forward of this one object."""
    if isinstance(module, fx.GraphModule):
        module.graph = graph  # it minds the rest itself
        return
    code = graph.python_code("self")
    # What the code names; of packages their name, for they do not pickle.
    names = {
        name: _Package(value.__name__) if isinstance(value, ModuleType) else value
        for name, value in code.globals.items()
    }
    # Of these it calls the parts one by one: of a ModuleList that grows, such as were there.
    paths = [str(node.target).split(".") for node in graph.nodes if node.op in ("call_module", "get_attr")]
    holders = {".".join(path[:depth]) for path in paths for depth in range(len(path))} | {""}
    children = {holder: tuple(module.get_submodule(holder)._modules) for holder in sorted(holders)}
    module.__class__ = _class_of(type(module), code.src, names, children)


class _Package(str):
    """The name of a package, for the package."""


def _class_of(
    base: type[nn.Module], source: str, names: dict[str, Any], children: dict[str, tuple[str, ...]]
) -> type[nn.Module]:
    """The subclass with another forward, for as long as the modules of each that it names are called as they were."""
    namespace: dict[str, Any] = {
        name: import_module(value) if isinstance(value, _Package) else value for name, value in names.items()
    }
    exec(compile(source, f"<forward of a converted {base.__name__}>", "exec"), namespace)
    rewritten = namespace["forward"]

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # A slice of a Sequential is of its class, and one may be appended to.
        for holder, expected in children.items():
            held = self.get_submodule(holder) if holder else self
            if tuple(held._modules) != expected:
                return base.forward(self, *args, **kwargs)
        return rewritten(self, *args, **kwargs)

    def reduce(self: nn.Module, protocol: Any) -> Any:
        made, arguments, *state = cast("tuple[Any, ...]", base.__reduce_ex__(self, protocol))
        plain = (base if part is type(self) else part for part in (made, *arguments))
        return _remade, (base, source, names, children, *plain), *state

    members = {"forward": forward, "__reduce_ex__": reduce, "rewritten_from": base, "__module__": base.__module__}
    return type(base.__name__, (base,), members | {"__qualname__": base.__qualname__, "__doc__": base.__doc__})


def _remade(base: type[nn.Module], source: str, names: Any, children: Any, made: Any, *arguments: Any) -> nn.Module:
    """An object of such a class, before its state: as `made` makes one of the class before."""
    module: nn.Module = made(*arguments)
    module.__class__ = _class_of(base, source, names, children)
    return module
