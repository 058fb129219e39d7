"""What holds of every operation: agreement with its reference, and how it composes with torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from contract import (
    DTYPES,
    TARGETS,
    Recorder,
    Target,
    arrays,
    cases_of,
    first_smooth,
    has_floats,
    outputs,
    reference_of,
    targets,
    tensors,
    to_numpy,
)
from visionops._backend import EMULATED, NATIVE
from visionops._op import Public
from visionops.testing import Case, compare

# Operations whose gradient is by definition not that of their value; their rooms test it.
FROZEN = {"complete_box_iou": "alpha is a constant in the gradient, as in the authors' code"}
# Linear operations; the others raise at the second differentiation.
TWICE = {
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "avg_pool2d_backward",
    "box_convert",
    "channel_shuffle",
    "col2im",
    "conv2d",
    "conv_transpose2d",
    "depthwise_conv2d",
    "global_avg_pool2d",
    "im2col",
    "im2col_conv2d",
    "max_pool2d",  # linear where its offsets stay
    "max_pool2d_backward",
    "max_pool2d_with_offsets",
    "max_unpool2d",
    "pointwise_conv2d",
    "roi_align",
    "spatial_pyramid_pool",
}
# What they return has as many rows as values decide.
SIZED_BY_VALUES = {
    "batched_nms",
    "fast_nms",
    "mask_matrix_nms",
    "matrix_nms",
    "nms",
    "remove_small_boxes",
    "soft_nms",
}
# Of the order in which an emulated GPU runs blocks and threads: a case meets all of them in its four dtypes.
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Agreement:
    """A case of an operation on a backend, in dtypes that each have a seed."""

    target: Target
    case: int
    dtypes: dict[str, int]


def _agreements() -> Iterator[Any]:
    """Parameters for pytest; backends of one case stand together, for they have one expected result."""
    for public, same in groupby(TARGETS, lambda target: target.public):
        able = [target for target in same if target.why_not is None]
        for i, case in enumerate(cases_of(public)):
            dtypes = {dtype: SEEDS[(i + j) % len(SEEDS)] for j, dtype in enumerate(DTYPES)}
            if not has_floats(case):
                dtypes = {"float64": dtypes["float64"]}
            for target in able:
                name = f"{target}-{case.name}"
                if target.is_interpreted and has_floats(case):
                    # A call takes long: one wide and one narrow dtype, by turns; the slow tests have the others.
                    now, later = (dict(list(dtypes.items())[(i + turn) % 2 :: 2]) for turn in (0, 1))
                    yield pytest.param(Agreement(target, i, now), id=name)
                    yield pytest.param(Agreement(target, i, later), id=f"{name}-others", marks=pytest.mark.slow)
                else:
                    yield pytest.param(Agreement(target, i, dtypes), id=name)


@lru_cache(maxsize=len(DTYPES))
def _expected(public: Public, case: int, dtype: str) -> tuple[Any, ...]:
    args, kwargs = arrays(*tensors(cases_of(public)[case], DTYPES[dtype]))
    return outputs(reference_of(public)(*args, **kwargs))


# Not a test for each dtype: what pytest does for one takes about as long as most calls.
@pytest.mark.parametrize("agreement", list(_agreements()))
def test_agrees_with_reference(agreement: Agreement, record_property: Any) -> None:
    target, case = agreement.target, cases_of(agreement.target.public)[agreement.case]
    record_property("ran_on", target.ran_on)
    for dtype, seed in agreement.dtypes.items():
        if target.backend is EMULATED:
            torch.ops.visionops.emulation_seed(seed)
        args, kwargs = tensors(case, DTYPES[dtype], target.device)
        before = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
        actual = outputs(target(*args, **kwargs))
        for a, e in zip(actual, _expected(target.public, agreement.case, dtype), strict=True):
            assert tuple(a.shape) == e.shape, dtype
            compare(to_numpy(a).astype(e.dtype), e, str(a.dtype).removeprefix("torch."), case.terms)
        for value, was in zip(args, before, strict=True):
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, was, rtol=0, atol=0, equal_nan=True)


def _smooth_call(target: Target) -> tuple[list[Any], dict[str, Any]]:
    return tensors(first_smooth(target.public), torch.float64, target.device)


def _floating(args: list[Any]) -> list[int]:
    # Coordinates that stay float32 have no gradient.
    return [i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.dtype == torch.float64]


@pytest.mark.parametrize("target", targets())
def test_opcheck(target: Target) -> None:
    args, kwargs = _smooth_call(target)
    with Recorder() as recorder:
        for i in _floating(args):
            args[i].requires_grad_()
        result = outputs(target(*args, **kwargs))[0]
        if result.requires_grad:
            result.sum().backward()
    assert recorder.calls
    for operation, inputs in recorder.calls:
        detached = tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in inputs)
        checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
        torch.library.opcheck(operation, detached, test_utils=checks)


# What is traced for the emulated GPU is what is traced for the native backend; where a call is interpreted, which takes
# long, sizes are dynamic only.
COMPILED = [
    pytest.param(*target.values, dynamic, id=f"{target.id}-{'dynamic' if dynamic else 'static'}", marks=target.marks)
    for target in targets(emulated=False)
    for dynamic in (False, True)
    if dynamic or not target.values[0].is_interpreted
]


# What torch.compile warns of in itself.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("target", "dynamic"), COMPILED)
def test_compiles_in_one_graph(target: Target, dynamic: bool) -> None:
    # Where sizes are dynamic, numbers among the arguments are as well.
    args, kwargs = _smooth_call(target)
    if target.public.op.differentiable:
        for i in _floating(args):
            args[i].requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(target.public.function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    results = compiled(*args, **kwargs, backend=target.backend.name)
    for actual, expected in zip(outputs(results), outputs(target(*args, **kwargs)), strict=True):
        assert torch.equal(actual, expected)


def _on_meta(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_on_meta, value))
    return value.to("meta") if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("target", [t for t in TARGETS if t.backend is NATIVE and t.device == "cpu"], ids=str)
def test_shapes_without_values(target: Target) -> None:
    for case in cases_of(target.public):
        args, kwargs = tensors(case, torch.float32)
        without = _on_meta(args), {name: _on_meta(value) for name, value in kwargs.items()}
        if target.public.function.__name__ in SIZED_BY_VALUES and not kwargs.get("padded"):
            with pytest.raises(RuntimeError, match="meta Tensors"):
                target(*without[0], **without[1])
            continue
        results = outputs(target(*without[0], **without[1]))
        for shape, result in zip(results, outputs(target(*args, **kwargs)), strict=True):
            expected = result.shape, result.stride(), result.dtype
            assert (shape.shape, shape.stride(), shape.dtype) == expected


@pytest.mark.parametrize("target", targets())
def test_strided_inputs(target: Target) -> None:
    args, kwargs = _smooth_call(target)
    strided = [torch.stack([a, a], -1)[..., 0] if isinstance(a, torch.Tensor) else a for a in args]
    expected = outputs(target(*args, **kwargs))
    for actual, e in zip(outputs(target(*strided, **kwargs)), expected, strict=True):
        assert torch.equal(actual, e)


@pytest.mark.parametrize("target", [t for t in TARGETS if t.backend is NATIVE and t.device == "cpu"], ids=str)
def test_same_at_any_number_of_threads(target: Target) -> None:
    args, kwargs = tensors(max(cases_of(target.public), key=_size), torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            results.append(outputs(target(*args, **kwargs)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(to_numpy(a), to_numpy(b), equal_nan=a.is_floating_point())


def _size(case: Case) -> int:
    return int(np.prod([a.shape[0] for a in case.args if isinstance(a, np.ndarray) and a.ndim]))


def _value_and_inputs(target: Target) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """A function of the floating inputs alone, and those inputs."""
    args, kwargs = _smooth_call(target)
    where = _floating(args)

    def value(*inputs: torch.Tensor) -> torch.Tensor:
        full = list(args)
        for i, tensor in zip(where, inputs, strict=True):
            full[i] = tensor
        return outputs(target(*full, **kwargs))[0]

    return value, tuple(args[i] for i in where)


@pytest.mark.parametrize("target", targets(differentiable=True, without=tuple(FROZEN)))
def test_gradcheck(target: Target) -> None:
    value, inputs = _value_and_inputs(target)
    inputs = tuple(t.clone().requires_grad_() for t in inputs)
    # Along one drawn direction, where every call is interpreted.
    fast = target.is_interpreted
    assert torch.autograd.gradcheck(value, inputs, fast_mode=fast)
    (first,) = torch.autograd.grad((value(*inputs) ** 2).sum(), inputs[0], create_graph=True)
    if target.public.function.__name__ in TWICE:
        assert torch.autograd.gradgradcheck(value, inputs, fast_mode=fast)
    else:
        with pytest.raises(NotImplementedError, match="can be differentiated once, not twice"):
            first.sum().backward()


class Cut(torch.autograd.Function):
    """Has no gradient, as it says only when asked for one."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> None:
        return None


@pytest.mark.parametrize("target", targets(differentiable=True))
def test_gradients_that_nobody_asks_for(target: Target) -> None:
    value, inputs = _value_and_inputs(target)
    inputs = tuple(t.clone().requires_grad_() for t in inputs)
    result = value(*inputs)
    cut = Cut.apply(result)  # type: ignore[no-untyped-call]
    assert torch.autograd.grad(cut.sum(), inputs, allow_unused=True, retain_graph=True) == (None,) * len(inputs)
    grad = torch.ones_like(result)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        torch.autograd.grad(result, inputs, grad, allow_unused=True)
    # Of outputs that have none, indices for example, no gradient is made up.
    assert "aten::zeros" not in {event.name for event in profiler.events()}


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # torch's own, in its jvp
@pytest.mark.parametrize("target", targets(differentiable=True))
def test_functorch(target: Target) -> None:
    value, inputs = _value_and_inputs(target)
    batch = tuple(torch.stack([t, t * 1.01]) for t in inputs)
    leaves = [b.clone().requires_grad_() for b in batch]
    wanted = torch.autograd.grad(sum(value(*(b[i] for b in leaves)).sum() for i in range(2)), leaves)
    every = tuple(range(len(batch)))
    grad_of_vmap = torch.func.grad(lambda *b: torch.func.vmap(value)(*b).sum(), argnums=every)(*batch)
    vmap_of_grad = torch.func.vmap(torch.func.grad(lambda *t: value(*t).sum(), argnums=every))(*batch)
    for got in (grad_of_vmap, vmap_of_grad):
        torch.testing.assert_close(got, tuple(wanted))
    jacobian = torch.func.jacrev(value)(*inputs)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(value, inputs)[0])
    with pytest.raises((NotImplementedError, RuntimeError), match=r"jvp|forward"):
        torch.func.jvp(value, inputs, inputs)


@pytest.mark.parametrize("target", [t for t in TARGETS if t.backend is NATIVE and t.device == "cpu"], ids=str)
def test_backend_names(target: Target) -> None:
    args, kwargs = _smooth_call(target)
    with pytest.raises(ValueError, match="backend: expected None or one of 'native'"):
        target.public.function(*args, **kwargs, backend="abacus")
    assert NATIVE.why_not(target.public.op, "mps", torch.float32) == "no kernel for device mps"
