"""What follows a norm or a convolution in a traced forward, and how these take it in: addition, activation, norm."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from visionops._op import needs_autograd
from visionops.nn.conv2d import Conv2d
from visionops.nn.norm import BatchNorm2d
from visionops.norm import fold_batch_norm

FUNCTIONS: dict[str | None, Any] = {
    None: lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}
_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.GELU: "gelu",
}
_CALLED = {function: name for name, function in FUNCTIONS.items() if name} | {torch.relu: "relu"}
_METHODS = {"relu": "relu", "relu_": "relu"}
_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


def takes_in(module: nn.Module) -> bool:
    """Whether it has a pass of its own that could do what follows: a convolution only until it is packed."""
    if type(module) is Conv2d:
        return module.activation is None and module.packed is None and not module.training
    return type(module) is BatchNorm2d and module.activation is None


def fuse(module: nn.Module, graph: fx.Graph, calls: Counter[int]) -> dict[int, str]:
    """Rewrite the graph of a module's forward; by id of each norm and convolution concerned, what it became.

    `calls` counts by id how often each module is called in the whole network.
    """
    done = {}
    for node in list(graph.nodes):
        called = _called(module, node)
        if called is None or not takes_in(called) or not _alone(called, node, calls):
            continue
        addition = _addition_after(node) if isinstance(called, BatchNorm2d) else None
        if isinstance(called, BatchNorm2d) and addition is None and _folds(module, node, called, calls):
            done[id(called)] = "into the convolution before it"
            node = _fold(module, graph, node, called)
            called = module.get_submodule(str(node.target))
            if not takes_in(called):
                continue
        last = addition or node
        activated = _only_user(last)
        name = None if activated is None else _activation(module, activated)
        if name is not None:
            last = activated
        if last is node:
            continue
        called.activation = name  # type: ignore[assignment]
        replacement = node
        if addition is not None:
            other = addition.args[1] if addition.args[0] is node else addition.args[0]
            function = with_residual_in_place if _owns_its_input(module, node) else with_residual
            with graph.inserting_before(last):
                replacement = graph.call_function(function, (graph.get_attr(str(node.target)), node.args[0], other))
        last.replace_all_uses_with(replacement)
        for step in {last: None, addition: None, node if addition else None: None}:
            if step is not None:
                graph.erase_node(step)
        parts = [part for part in ("residual" if addition else None, name) if part]
        done[id(called)] = f"{type(called).__name__} with {' and '.join(parts)}"
    return done


def with_residual(norm: BatchNorm2d, input: Tensor, other: Any) -> Tensor:
    """What a norm, an addition and the norm's activation do: in one pass unless the addition broadcasts the input."""
    if _is_alike(other, input):
        return norm(input, residual=other)  # type: ignore[no-any-return]
    return FUNCTIONS[norm.activation](norm.normalised(input, None, None) + other)  # type: ignore[no-any-return]


def _is_alike(other: Any, input: Tensor) -> bool:
    return isinstance(other, Tensor) and other.shape == input.shape and other.dtype == input.dtype


def with_residual_in_place(norm: BatchNorm2d, input: Tensor, other: Any) -> Tensor:
    """The same over memory that is at hand, where no gradient is asked for: the input is overwritten."""
    gradient = needs_autograd((input, norm.weight, norm.bias, other))
    if _is_alike(other, input) and input.device.type == "cpu" and not gradient:
        return norm.normalised(input, other, norm.activation, in_place=True)
    return with_residual(norm, input, other)


def _called(module: nn.Module, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _alone(module: nn.Module, node: fx.Node, calls: Counter[int]) -> bool:
    """Whether it is called once in the network, with one input, and no hook sees what it is called with."""
    return calls[id(module)] == 1 and len(node.args) == 1 and not node.kwargs and not _has_hooks(module)


def _has_hooks(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _addition_after(node: fx.Node) -> fx.Node | None:
    """The sum of a node with another one, if that is all it is used for."""
    user = _only_user(node)
    if user is None or user.target not in _ADDITIONS or len(user.args) != 2 or user.kwargs:
        return None
    first, second = user.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or first is second:
        return None
    in_place = user.target in (operator.iadd, "add_")
    # In place of the other one, its other users would see the sum. And the norm moves to where the sum is: its input
    # must not change in between.
    return user if (first is node or not in_place) and len(node.all_input_nodes[0].users) == 1 else None


def _activation(module: nn.Module, node: fx.Node) -> str | None:
    if len(node.args) != 1 or set(node.kwargs) - {"inplace"}:
        return None
    if node.op == "call_function":
        return _CALLED.get(node.target)
    if node.op == "call_method":
        return _METHODS.get(str(node.target))
    called = _called(module, node)
    if called is None or _has_hooks(called):
        return None
    if (isinstance(called, nn.LeakyReLU) and called.negative_slope != 0.01) or (
        isinstance(called, nn.GELU) and called.approximate != "none"
    ):
        return None
    return _MODULES.get(type(called))


def _is_convolution(module: nn.Module) -> bool:
    return type(module) in (Conv2d, nn.Conv2d)


def _owns_its_input(module: nn.Module, node: fx.Node) -> bool:
    """Whether the norm called is there to infer, and what it reads is new from a convolution, seen by nobody else."""
    convolution = _called(module, node.all_input_nodes[0])
    new = convolution is not None and _is_convolution(convolution) and not _has_hooks(convolution)
    return new and not module.get_submodule(str(node.target)).training


def _folds(module: nn.Module, node: fx.Node, norm: BatchNorm2d, calls: Counter[int]) -> bool:
    """Whether the norm, in eval mode, follows a convolution whose output nothing else uses."""
    before = node.args[0]
    if norm.training or norm.running_mean is None or not isinstance(before, fx.Node) or len(before.users) != 1:
        return False
    convolution = _called(module, before)
    if convolution is None or not _is_convolution(convolution) or convolution.training:
        return False
    # What is packed or has its activation already is done before the norm.
    plain = type(convolution) is nn.Conv2d or takes_in(convolution)
    return plain and _alone(convolution, before, calls)


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
