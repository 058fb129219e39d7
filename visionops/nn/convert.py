"""Puts this library's operations into an existing network, in place, and says what it swapped and what it left."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from visionops import _check
from visionops._op import FLOATING
from visionops.nn.conv2d import Conv2d
from visionops.nn.forwards import UnfollowableError, check_forward
from visionops.nn.norm import BatchNorm2d
from visionops.nn.patterns import Network, fuse, holder, is_unread
from visionops.nn.pool import AvgPool2d, MaxPool2d
from visionops.nn.rewritten import is_rewritten, rewrite
from visionops.nn.steps import is_patched, takes_in

# A module of the first class becomes one of the second, which has its attributes, parameters and hooks and all.
SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: BatchNorm2d,
    nn.Conv2d: Conv2d,
    nn.MaxPool2d: MaxPool2d,
    nn.AvgPool2d: AvgPool2d,
}

# What one might expect to be swapped, and why it is not.
LEFT: dict[type[nn.Module], str] = {
    nn.SyncBatchNorm: "its statistics are of several processes",
    nn.BatchNorm1d: "only (B, C, H, W) is normalised here",
    nn.BatchNorm3d: "only (B, C, H, W) is normalised here",
}


@dataclass
class Conversion:
    """What `convert` did to each module, by its name in the network: what came of it, or why it was left."""

    swapped: list[tuple[str, str]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"swapped {name}: {what}" for name, what in self.swapped]
        return "\n".join(lines + [f"left {name}: {why}" for name, why in self.left])


def convert(model: nn.Module) -> Conversion:
    """Swap torch's modules in a network for this library's, in place.

    - Every `torch.nn.BatchNorm2d` becomes a `visionops.nn.BatchNorm2d`, the same object with the same parameters,
      buffers and hooks: an optimizer that holds them goes on.
    - `torch.nn.MaxPool2d` and `torch.nn.AvgPool2d` likewise.
    - Where a module's own forward sends the norm's output to an addition, an activation or both, and nowhere else,
      that forward has them done in the norm's pass. Called from elsewhere the norm is what it was.
    - Of a network that is in eval mode as a whole, every `torch.nn.Conv2d` becomes a `visionops.nn.Conv2d` and is
      packed, as its `prepack` says: 3 x 3 filters take their memory two to three times, and the weights are not to
      change. Where a norm follows a convolution and no addition follows it, the convolution takes the norm into its
      weights, and the norm is gone: such a network is for inference, and methods other than forward that read the
      convolution find what it has become. Nothing is folded that is used elsewhere as well, or that a forward which
      could not be read may call by itself, such as a part of a Sequential. The activation that follows is done in the
      convolution's pass. Where an addition follows the norm, what the convolution returned is overwritten, unless a
      gradient is asked for.

    What torch.fx made of a network before, such as torchvision's feature extractors, has its graph rewritten; it does
    not trace what convert made. Else a forward stays as it is, its modules swapped but alone, where torch.fx would not
    see all that it does: where its way depends on the input, on the mode or on chance, where it writes what others see,
    or enters a context. What it reads of the module but for parameters, buffers and modules stays as it is now. Outputs
    and gradients agree with those before to within rounding.

    Args:
        model: Any network; in training mode unless it will only infer.

    Returns:
        What was swapped and what was left, with the reason; its str is a line for each.

    Raises:
        TypeError: not a module.

    >>> print(convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))))
    swapped 1: BatchNorm2d with relu
    swapped 3: MaxPool2d
    """
    _check.is_a("model", model, nn.Module)
    report = Conversion()
    names = {id(module): name for name, module in model.named_modules()}
    # What has no values yet has nothing to pack.
    infers = not any(module.training for module in model.modules()) and not any(
        tensor.is_meta for tensor in (*model.parameters(), *model.buffers())
    )
    swapped = []
    for module in model.modules():
        kind = type(module)
        if reason := _why_left(module, infers):
            report.left.append((names[id(module)], f"{kind.__name__}: {reason}"))
        elif kind in SWAPS and (infers or kind is not nn.Conv2d):
            module.__class__ = SWAPS[kind]
            swapped.append(module)

    graphs: dict[nn.Module, fx.Graph] = {}
    for module in model.modules():
        if is_rewritten(module) or not any(takes_in(child) for child in module.modules() if child is not module):
            continue
        if type(module).forward is nn.Module.forward:
            continue  # it holds others, and is never called itself
        try:
            graphs[module] = graph_of(module)
        except UnfollowableError as error:
            report.left.append((names[id(module)] or "the network", f"{type(module).__name__}: {error}"))
    uses = Counter(used for module, graph in graphs.items() for used in modules_used(module, graph))
    for module in model.modules():
        if module not in graphs and is_unread(module):
            uses.update(_within_reach(module))
    network = Network(graphs, uses, infers)
    what = {id(module): type(module).__name__ for module in swapped}
    for module, graph in graphs.items():
        fused = fuse(module, graph, network)
        if fused:
            rewrite(module, graph)
            what.update(fused)
    for module in swapped:
        if isinstance(module, Conv2d):
            module.prepack()
    report.swapped += [(names[key], done) for key, done in what.items()]
    return report


def _why_left(module: nn.Module, infers: bool) -> str | None:
    """Why a module is not swapped, where one might expect it."""
    kind = type(module)
    if kind in SWAPS and (infers or kind is not nn.Conv2d) and is_patched(module):
        return "its forward was replaced"
    if kind in (nn.MaxPool2d, nn.AvgPool2d):
        sizes = (module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1))
        if not all(isinstance(size, int) or len(size) == 2 for size in sizes):  # type: ignore[arg-type]
            return "its sizes are not integers or pairs"
    if kind is nn.Conv2d and infers:
        if module.padding_mode != "zeros":
            return f"its padding mode is {module.padding_mode}"
        if module.weight.dtype not in FLOATING:
            return f"its weight is {module.weight.dtype}"
        if module._forward_pre_hooks:
            return "a hook before it may change its weight"
    if isinstance(module, nn.BatchNorm2d) and kind is not nn.BatchNorm2d and kind not in SWAPS.values():
        return "a class of its own may compute something else"
    return LEFT.get(kind)


class _InPlace(fx.Proxy):
    """A value that `x += y` changes; torch.fx would follow it as x = x + y, which other names of x do not see."""


def _in_place(name: str) -> Any:
    def method(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(_InPlace, f"__i{_name}__", _in_place(f"i{_name}"))


class _OneLevel(fx.Tracer):
    """Follows one module's own forward; the modules it calls are single steps."""

    proxy_buffer_attributes = True  # else what is read and written of them is read and written once, in tracing

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlace(node, self)


def graph_of(module: nn.Module) -> fx.Graph:
    """The steps of a module's forward, which are the same in training and eval."""
    if "forward" in vars(module):
        raise UnfollowableError("its forward was replaced")
    if isinstance(module, fx.GraphModule):
        return module.graph
    check_forward(module)
    before, graphs = dict(vars(module)), []
    modes = {part: part.training for part in module.modules()}
    try:
        for mode in (True, False):
            for part in modes:
                part.training = mode
            graphs.append(_OneLevel().trace(module))
    except Exception as error:  # of any kind: it is the network's own code that runs
        message = str(error).splitlines()
        raise UnfollowableError(f"torch.fx cannot follow its forward: {message[0] if message else error!r}") from error
    finally:
        for part, mode in modes.items():
            part.training = mode
        # A forward may leave what it was traced with in the module.
        after = dict(vars(module))
        vars(module).clear()
        vars(module).update(before)
    if any(after.get(name) is not value for name, value in before.items()) or after.keys() != before.keys():
        raise UnfollowableError("its forward changes the module")
    first, second = (graph.python_code("self").src for graph in graphs)
    if first != second:
        raise UnfollowableError("its forward depends on the mode")
    return graphs[0]


def modules_used(module: nn.Module, graph: fx.Graph) -> Iterator[nn.Module]:
    """The modules that a forward calls or reads parameters of, as often as it does."""
    for node in graph.nodes:
        if node.op == "call_module":
            yield module.get_submodule(str(node.target))
        if node.op == "get_attr":
            yield holder(module, node)


def _within_reach(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a forward that was not read may call: its own, and those of what only holds others."""
    for child in module.children():
        yield child
        if type(child).forward in (nn.Module.forward, nn.Sequential.forward):
            yield from _within_reach(child)
