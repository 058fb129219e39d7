"""Op and REGISTRY: how an operation is declared, how its backend is chosen and how it is differentiated.

An `Op` stands for one schema. Each of its backends is a torch operation of its own, `visionops::<op>_<backend>`, so
that a trace names what ran. The public functions that an Op serves join REGISTRY by its decorator `public`; tests,
benchmarks, `python -m visionops` and the README's table all read from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

from visionops._backend import ATEN, EMULATED, NATIVE, TRITON, Backend, define_aten, define_triton

Function = TypeVar("Function", bound=Callable[..., Any])
# What computes alone, and what can be differentiated as well.
_Pair = tuple[Callable[..., Any], Callable[..., Any]]

FLOATING = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})
NUMBERS = FLOATING | {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
INTEGERS = NUMBERS - FLOATING


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a result over numbers: their own if floating, else float32 up to 16 bits and float64 above."""
    if dtype in FLOATING:
        return dtype
    return torch.float64 if dtype in (torch.int32, torch.int64) else torch.float32


def batch_first(info: Any, in_dims: Sequence[int | None], args: Sequence[Any]) -> list[Any]:
    """For batching rules: the arguments with the mapped dimension of tensors first, expanded where they have none."""

    def first(arg: Any, dim: int | None) -> Any:
        if not isinstance(arg, torch.Tensor):
            return arg
        return arg.expand(info.batch_size, *arg.shape) if dim is None else arg.movedim(dim, 0)

    return list(map(first, args, in_dims))


def vmap_leading(raw: Callable[..., Any], info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
    """The batching rule of an operation whose tensors may all have further leading dimensions."""
    outputs = raw(*batch_first(info, in_dims, args))
    return outputs, (0,) * len(outputs) if isinstance(outputs, tuple) else 0


def vmap_batches(raw: Callable[..., Any], info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
    """The batching rule of an operation on a batch, of tensors and results alike: batches are one larger batch."""
    whole = batch_first(info, in_dims, args)
    sizes = next(arg.shape[:2] for arg in whole if isinstance(arg, torch.Tensor))
    outputs = raw(*(arg.flatten(0, 1) if isinstance(arg, torch.Tensor) else arg for arg in whole))
    if isinstance(outputs, torch.Tensor):
        return outputs.view(*sizes, *outputs.shape[1:]), 0
    return tuple(output.view(*sizes, *output.shape[1:]) for output in outputs), (0,) * len(outputs)


def vmap_one_by_one(raw: Callable[..., Any], info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
    """The batching rule of an operation that takes no further dimension: one example after the other."""
    if info.batch_size == 0:
        raise ValueError("vmap: expected at least one example, got none")
    examples = [
        raw(*(arg if dim is None else arg.select(dim, i) for arg, dim in zip(args, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
    if isinstance(examples[0], torch.Tensor):
        return torch.stack(examples), 0
    outputs = tuple(torch.stack(parts) for parts in zip(*examples, strict=True))
    return outputs, (0,) * len(outputs)


def indices_of_unknown_number(like: torch.Tensor) -> torch.Tensor:
    """For shape rules: int64 indices, as many as values decide, possibly none."""
    size = torch.library.get_ctx().new_dynamic_size()
    return like.new_empty((size,), dtype=torch.int64)


@dataclass(frozen=True)
class Gradient:
    """How an operation is differentiated; without it, its results carry no gradient.

    Attributes:
        save: (ctx, inputs, output), as autograd.Function.setup_context.
        backward: (ctx, *grads) to one gradient, or None, per argument. A gradient of an output from which none came
            is None; it is not called if all are. ctx.backend is the name of the backend that ran, for the operation
            that computes the gradient.
    """

    save: Callable[[Any, tuple[Any, ...], Any], None]
    backward: Callable[..., Any]


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _raise(ctx: Any, *grads: torch.Tensor) -> None:
    raise NotImplementedError("this operation can be differentiated once, not twice")


# The gradient of a backward operation that has none: it raises, where torch's once_differentiable would silently
# return a result without gradient whenever the incoming one has none.
ONCE = Gradient(_save_nothing, _raise)


@dataclass(frozen=True)
class Public:
    """A function of the contents page and the Op that serves it."""

    function: Callable[..., Any]
    op: Op

    @property
    def room(self) -> str:
        """The package that holds its reference and cases."""
        return self.function.__module__.split(".")[1]


REGISTRY: dict[str, Public] = {}


class Op:
    """A schema, its shape rule, gradient and batching rule, and its backends, best first.

    Args:
        name: The stem; backend b is torch.ops.visionops.<name>_<b>.
        fake: The shape rule: the schema's arguments to empty tensors.
        gradient: How it is differentiated, if it is.
        vmap: (raw, info, in_dims, *args) to (outputs, out_dims), as torch.library.register_vmap but for the torch
            operation `raw` to call; None where a batch of this operation makes no sense, and vmap over it raises.
        backends: Best first.
    """

    def __init__(
        self,
        name: str,
        *,
        fake: Callable[..., Any],
        gradient: Gradient | None = None,
        vmap: Callable[..., Any] | None = None,
        backends: Sequence[Backend] = (NATIVE,),
    ) -> None:
        self.name = name
        self.has_cuda_kernel = _has_cuda_kernel(f"visionops::{name}_native")
        emulated = hasattr(torch.ops.visionops, f"{name}_emulated")
        self.backends = (*backends, EMULATED) if emulated else tuple(backends)
        self._gradient = gradient
        self._chosen: dict[tuple[torch.device, torch.dtype, str | None], _Pair] = {}
        self._functions: dict[str, _Pair] = {}
        for backend in self.backends:
            qualified = f"visionops::{name}_{backend.name}"
            if backend is TRITON:
                define_triton(qualified, name, fake)
            if backend is ATEN:
                define_aten(f"{name}_aten", name, fake)
            if not hasattr(torch.ops.visionops, f"{name}_{backend.name}"):
                continue  # its library is absent; why_not says so
            raw = getattr(torch.ops.visionops, f"{name}_{backend.name}").default
            torch.library.register_fake(qualified, fake)
            torch.library.register_vmap(qualified, partial(vmap or self._no_vmap, raw))
            differentiable = raw if gradient is None else self._differentiable(raw, gradient, backend.name)
            self._functions[backend.name] = raw, differentiable

    @property
    def differentiable(self) -> bool:
        """Whether its results carry a gradient."""
        return self._gradient is not None

    def __call__(self, *args: Any, backend: str | None = None) -> Any:
        """Run the backend named, or the first that can run on the device and dtype of the first argument."""
        # Operations on several maps take a list of them first.
        first = args[0][0] if type(args[0]) is list else args[0]
        key = (first.device, first.dtype, backend)
        functions = self._chosen.get(key)
        if functions is None:
            functions = self._choose(*key)
            # A backward pass that is being traced may change nothing outside itself.
            if not torch.compiler.is_compiling():
                self._chosen[key] = functions
        # autograd.Function costs more than a small kernel: only where a gradient can be asked for.
        return functions[1 if self._gradient is not None and needs_autograd(args) else 0](*args)

    def public(self, function: Function) -> Function:
        """Enter a public function that this Op serves into REGISTRY."""
        REGISTRY[function.__name__] = Public(function, self)
        return function

    def _choose(self, device: torch.device, dtype: torch.dtype, wanted: str | None) -> _Pair:
        reasons = []
        for backend in self.backends:
            if wanted in (None, backend.name):
                reason = backend.why_not(self, device.type, dtype)
                if reason is None:
                    return self._functions[backend.name]
                reasons.append(f"{backend.name}: {reason}")
        if not reasons:
            names = ", ".join(repr(b.name) for b in self.backends)
            raise ValueError(f"backend: expected None or one of {names}, got {wanted!r}")
        raise NotImplementedError(f"{self.name}: no backend runs {dtype} on {device.type}: {'; '.join(reasons)}")

    def _no_vmap(self, *args: Any) -> Any:
        raise NotImplementedError(f"{self.name}: vmap is not defined")

    def _differentiable(self, raw: Callable[..., Any], gradient: Gradient, backend: str) -> Callable[..., Any]:
        # torch.compile follows functions that it closes over, but not what holds them.
        save_inputs, differentiate = gradient.save, gradient.backward

        def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.backend = backend
            # Else an output without gradient, such as indices, gets one of zeros: as large as itself, read by nobody.
            ctx.set_materialize_grads(False)
            save_inputs(ctx, inputs, output)

        def computed(ctx: Any, *grads: torch.Tensor | None) -> Any:
            for grad in grads:
                if grad is not None:
                    return differentiate(ctx, *grads)
            return (None,) * len(ctx.needs_input_grad)

        class Plain(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *args: Any) -> Any:
                output = raw(*args)
                save(ctx, args, output)
                return output

            backward = staticmethod(computed)

        # With a setup_context torch reads the signature of forward at each call, and takes four times as long as for
        # a small kernel; without one no transform of torch.func goes.
        class Transformable(torch.autograd.Function):
            generate_vmap_rule = True
            forward = staticmethod(raw)
            setup_context = staticmethod(save)
            backward = staticmethod(computed)

        def differentiable(*args: Any) -> Any:
            # Of the tracers, torch.compile alone refuses a tensor that comes twice.
            if torch.compiler.is_dynamo_compiling():
                args = _distinct(args)
            is_transformed = torch._C._are_functorch_transforms_active()
            return (Transformable if is_transformed else Plain).apply(*args)  # type: ignore[no-untyped-call]

        Plain.__name__ = Transformable.__name__ = self.name
        return differentiable


def _distinct(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, with a view in the place of each tensor that stands before it as well."""
    distinct: list[Any] = []
    for i, arg in enumerate(args):
        is_repeated = isinstance(arg, torch.Tensor) and any(arg is other for other in args[:i])
        distinct.append(arg.view_as(arg) if is_repeated else arg)
    return tuple(distinct)


def _has_cuda_kernel(qualified: str) -> bool:
    name = qualified.removeprefix("visionops::")
    return hasattr(torch.ops.visionops, name) and torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "CUDA")


_PLAIN = frozenset({int, float, bool})


def needs_autograd(args: tuple[Any, ...]) -> bool:
    """Whether a gradient may be asked for of what is computed from these."""
    # Inside grad(vmap(f)) requires_grad reads False, and a dual tensor has none: a raw operation would return silent
    # zeros there, an autograd.Function differentiates or raises.
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    if torch.is_grad_enabled():
        for arg in args:
            # To ask for the attribute is quicker than to ask torch whether it is a tensor, but torch.compile asks it of
            # no number that may change from call to call.
            if type(arg) not in _PLAIN and getattr(arg, "requires_grad", False):
                return True
    return False
