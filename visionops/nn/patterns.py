"""What follows a norm or a convolution in a traced forward, and how these take it in: addition, activation, norm."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from visionops.nn.conv2d import Conv2d
from visionops.nn.norm import BatchNorm2d
from visionops.nn.rewritten import is_rewritten
from visionops.nn.steps import (
    FUNCTIONS,
    is_patched,
    is_watched,
    name_of,
    takes_in,
    with_activation,
    with_residual,
    with_residual_in_place,
)
from visionops.norm import fold_batch_norm

_CALLED = {function: name for name, function in FUNCTIONS.items() if name} | {torch.relu: "relu"}
_METHODS = {"relu": "relu", "relu_": "relu"}
_AUGMENTED = (operator.iadd, "add_")
_ADDITIONS = (*_AUGMENTED, operator.add, torch.add, "add")
_IN_PLACE = {name for name in dir(operator) if name.startswith("i") and f"__{name}__" in dir(operator)}


@dataclass(frozen=True)
class Network:
    """What is known of the whole while the forward of a part is rewritten.

    Attributes:
        graphs: The forwards that could be followed.
        uses: How often each module is called or read of in them, and at least once where that cannot be told.
        infers: Whether all of it is in eval mode.
    """

    graphs: Mapping[nn.Module, fx.Graph]
    uses: Counter[nn.Module]
    infers: bool


def is_unread(module: nn.Module) -> bool:
    """Whether its forward may do anything, unless its graph is known: torch's modules and ours do what they say."""
    is_ours = type(module).forward.__module__.startswith(("torch.nn.", "visionops.")) and not is_rewritten(module)
    return is_patched(module) or not is_ours


def fuse(module: nn.Module, graph: fx.Graph, network: Network) -> dict[int, str]:
    """Rewrite the graph of a module's forward; by id of each norm and convolution concerned, what it became."""
    done = {}
    for node in list(graph.nodes):
        called = _called(module, node)
        if called is None or not takes_in(called) or not _is_plain(called, node):
            continue
        if network.infers and isinstance(called, BatchNorm2d) and _folds(module, node, called, network):
            done[id(called)] = "into the convolution before it"
            node = _fold(module, graph, node, called)
            called = module.get_submodule(str(node.target))
            if not takes_in(called):
                continue
        addition = _addition_after(module, node, network) if isinstance(called, BatchNorm2d) else None
        last = addition or node
        activated = _only_user(last)
        name = None if activated is None else _activation(module, activated)
        if activated is not None and addition is not None and not _may_move(module, called, last, activated, network):
            name = None
        if activated is not None and name is not None:
            last = activated
        if last is node:
            continue
        with graph.inserting_before(last if addition else node):
            # A module is asked again at each call, for it may have been replaced or be watched by then.
            is_module = name is not None and last.op == "call_module"
            activation = graph.get_attr(str(last.target)) if is_module else name
            arguments: list[Any] = [graph.get_attr(str(node.target)), node.args[0]]
            function: Any = with_activation
            if addition is not None:
                arguments.append(addition.args[1] if addition.args[0] is node else addition.args[0])
                function = with_residual
                if network.infers and _follows_convolution(module, node):
                    arguments.append(graph.get_attr(str(node.all_input_nodes[0].target)))
                    function = with_residual_in_place
            kind: dict[str, Any] = {"augmented": True} if addition and addition.target in _AUGMENTED else {}
            replacement = graph.call_function(function, (*arguments, activation), kind)
            replacement.meta["is_wrapped"] = True  # torch.fx traces again what it loads: this stays one step
        last.replace_all_uses_with(replacement)
        for step in {last: None, addition: None, node: None}:
            if step is not None:
                graph.erase_node(step)
        parts = [part for part in ("residual" if addition else None, name) if part]
        done[id(called)] = f"{type(called).__name__} with {' and '.join(parts)}"
    return done


def _called(module: nn.Module, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_plain(module: nn.Module, node: fx.Node) -> bool:
    """Whether it is called with one input, and does with it what its class does."""
    return len(node.args) == 1 and not node.kwargs and not is_watched(module)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _addition_after(module: nn.Module, node: fx.Node, network: Network) -> fx.Node | None:
    """The sum of a norm's node with another one, if that is all it is used for."""
    user = _only_user(node)
    if user is None or user.target not in _ADDITIONS or len(user.args) != 2 or user.kwargs:
        return None
    first, second = user.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or first is second:
        return None
    if first is not node and user.target in _AUGMENTED:
        return None  # in place of the other one, whose other users would see the sum
    is_alone = len(node.all_input_nodes[0].users) == 1
    return user if is_alone and _may_move(module, module.get_submodule(str(node.target)), node, user, network) else None


def _may_move(module: nn.Module, norm: nn.Module, first: fx.Node, last: fx.Node, network: Network) -> bool:
    """Whether what a norm does may be done later: no step in between writes its input, or sees its estimates move."""
    step = first.next
    while step is not last:
        if _may_write(module, step, network) or norm in _touched(module, step):
            return False
        step = step.next
    return True


def _touched(module: nn.Module, node: fx.Node) -> set[nn.Module]:
    """The modules that a step calls, or whose parameters and buffers it is given."""
    called = _called(module, node)
    found = set() if called is None else set(called.modules())
    return found.union(holder(module, given) for given in (node, *node.all_input_nodes) if given.op == "get_attr")


def holder(module: nn.Module, node: fx.Node) -> nn.Module:
    """The module that a step gets, or whose parameter or buffer."""
    path = str(node.target)
    value = operator.attrgetter(path)(module)
    return value if isinstance(value, nn.Module) else module.get_submodule(path.rpartition(".")[0])


def _may_write(module: nn.Module, node: fx.Node, network: Network) -> bool:
    """Whether a step may change a tensor that it is given."""
    if node.op == "call_module":
        for part in module.get_submodule(str(node.target)).modules():
            graph = network.graphs.get(part)
            if getattr(part, "inplace", False) or (graph is None and is_unread(part)):
                return True
            if graph is not None and any(_may_write(part, step, network) for step in graph.nodes):
                return True
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "_")
    is_named_so = name.endswith("_") or (node.op == "call_function" and name in _IN_PLACE)
    is_told_to = any(arg is True for arg in node.args) or node.kwargs.get("inplace", False) is not False
    return is_named_so or is_told_to or "out" in node.kwargs


def _activation(module: nn.Module, node: fx.Node) -> str | None:
    if len(node.args) != 1 or set(node.kwargs) - {"inplace"}:
        return None
    if node.op == "call_function":
        return _CALLED.get(node.target)
    if node.op == "call_method":
        return _METHODS.get(str(node.target))
    called = _called(module, node)
    return None if called is None else name_of(called)


def _follows_convolution(module: nn.Module, node: fx.Node) -> bool:
    """Whether what made the input of the norm called is a convolution."""
    return type(_called(module, node.all_input_nodes[0])) is Conv2d


def _folds(module: nn.Module, node: fx.Node, norm: BatchNorm2d, network: Network) -> bool:
    """Whether the norm follows a convolution whose output nothing else uses, both used here alone."""
    before = node.args[0]
    if norm.running_mean is None or not isinstance(before, fx.Node) or len(before.users) != 1:
        return False
    convolution = _called(module, before)
    if not isinstance(convolution, nn.Conv2d) or type(convolution) not in (Conv2d, nn.Conv2d):
        return False
    # What is packed or has its activation already is done before the norm.
    is_open = type(convolution) is nn.Conv2d or (takes_in(convolution) and convolution.packed is None)
    is_fit = _is_plain(convolution, before) and convolution.out_channels == norm.num_features
    is_used_here_alone = network.uses[convolution] == network.uses[norm] == 1
    return is_open and is_fit and is_used_here_alone and _addition_after(module, node, network) is None


def _fold(module: nn.Module, graph: fx.Graph, node: fx.Node, norm: BatchNorm2d) -> fx.Node:
    """Take the norm into the convolution before it, whose node is returned."""
    before = node.all_input_nodes[0]
    convolution = module.get_submodule(str(before.target))
    assert isinstance(convolution, nn.Conv2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        weight, bias = fold_batch_norm(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
        )
    trained = convolution.weight.requires_grad
    convolution.weight = nn.Parameter(weight, trained)
    convolution.bias = nn.Parameter(bias, trained)
    node.replace_all_uses_with(before)
    graph.erase_node(node)
    parent, _, name = str(node.target).rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Identity())
    return before
