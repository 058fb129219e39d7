"""What holds of every operation: agreement with its reference, and how it composes with torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import visionops
from contract import DTYPES, arrays, cases_of, first_smooth, has_floats, outputs, reference_of, tensors, to_numpy
from visionops._op import REGISTRY, Public
from visionops.testing import Case, compare

visionops.__all__  # noqa: B018 (fills REGISTRY)

BACKENDS = [(name, backend.name) for name, public in REGISTRY.items() for backend in public.op.backends]
# Operations whose gradient is by definition not that of their value; their rooms test it.
FROZEN = {"complete_box_iou": "alpha is a constant in the gradient, as in the authors' code"}
# Linear operations; the others raise at the second differentiation.
TWICE = {"box_convert"}
DIFFERENTIABLE = [(n, b) for n, b in BACKENDS if REGISTRY[n].op.differentiable]


AGREEMENTS = [
    pytest.param(name, backend, dtype, case, id=f"{name}-{backend}-{dtype}-{case.name}")
    for name, backend in BACKENDS
    for case in cases_of(REGISTRY[name])
    for dtype in (DTYPES if has_floats(case) else ["float64"])
]


@pytest.mark.parametrize(("name", "backend", "dtype", "case"), AGREEMENTS)
def test_agrees_with_reference(name: str, backend: str, dtype: str, case: Case, record_property: Any) -> None:
    record_property("ran_on", (name, backend, "cpu"))
    public = REGISTRY[name]
    args, kwargs = tensors(case, DTYPES[dtype])
    before = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
    actual = outputs(public.function(*args, **kwargs, backend=backend))
    reference_args, reference_kwargs = arrays(args, kwargs)
    expected = reference_of(public)(*reference_args, **reference_kwargs)
    for a, e in zip(actual, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert tuple(a.shape) == e.shape
        compare(to_numpy(a).astype(e.dtype), e, str(a.dtype).removeprefix("torch."), case.terms)
    for value, was in zip(args, before, strict=True):
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, was, rtol=0, atol=0, equal_nan=True)


def _smooth_call(name: str) -> tuple[Public, list[Any], dict[str, Any]]:
    public = REGISTRY[name]
    return public, *tensors(first_smooth(public), torch.float64)


def _floating(args: list[Any]) -> list[int]:
    return [i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.is_floating_point()]


class _Recorder(TorchDispatchMode):
    """Keeps the calls of this library's torch operations."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "visionops":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "backend"), BACKENDS)
def test_opcheck(name: str, backend: str) -> None:
    public, args, kwargs = _smooth_call(name)
    with _Recorder() as recorder:
        for i in _floating(args):
            args[i].requires_grad_()
        result = outputs(public.function(*args, **kwargs, backend=backend))[0]
        if result.requires_grad:
            result.sum().backward()
    assert recorder.calls
    for operation, inputs in recorder.calls:
        detached = tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in inputs)
        checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
        torch.library.opcheck(operation, detached, test_utils=checks)


@pytest.mark.parametrize(("name", "backend"), BACKENDS)
def test_compiles_in_one_graph(name: str, backend: str) -> None:
    public, args, kwargs = _smooth_call(name)

    def call(*args: Any) -> Any:
        return public.function(*args, **kwargs, backend=backend)

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(outputs(compiled(*args)), outputs(call(*args)), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(("name", "backend"), BACKENDS)
def test_strided_inputs(name: str, backend: str) -> None:
    public, args, kwargs = _smooth_call(name)
    strided = [torch.stack([a, a], -1)[..., 0] if isinstance(a, torch.Tensor) else a for a in args]
    expected = outputs(public.function(*args, **kwargs, backend=backend))
    for actual, e in zip(outputs(public.function(*strided, **kwargs, backend=backend)), expected, strict=True):
        assert torch.equal(actual, e)


@pytest.mark.parametrize(("name", "backend"), BACKENDS)
def test_same_at_any_number_of_threads(name: str, backend: str) -> None:
    public = REGISTRY[name]
    args, kwargs = tensors(max(cases_of(public), key=_size), torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            results.append(outputs(public.function(*args, **kwargs, backend=backend)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(to_numpy(a), to_numpy(b), equal_nan=a.is_floating_point())


def _size(case: Case) -> int:
    return int(np.prod([a.shape[0] for a in case.args if isinstance(a, np.ndarray) and a.ndim]))


def _value_and_inputs(name: str, backend: str) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """A function of the floating inputs alone, and those inputs."""
    public, args, kwargs = _smooth_call(name)
    where = _floating(args)

    def value(*inputs: torch.Tensor) -> torch.Tensor:
        full = list(args)
        for i, tensor in zip(where, inputs, strict=True):
            full[i] = tensor
        return public.function(*full, **kwargs, backend=backend)  # type: ignore[no-any-return]

    return value, tuple(args[i] for i in where)


@pytest.mark.parametrize(("name", "backend"), [pair for pair in DIFFERENTIABLE if pair[0] not in FROZEN])
def test_gradcheck(name: str, backend: str) -> None:
    value, inputs = _value_and_inputs(name, backend)
    inputs = tuple(t.clone().requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(value, inputs)
    (first,) = torch.autograd.grad((value(*inputs) ** 2).sum(), inputs[0], create_graph=True)
    if name in TWICE:
        assert torch.autograd.gradgradcheck(value, inputs)
    else:
        with pytest.raises(NotImplementedError, match="can be differentiated once, not twice"):
            first.sum().backward()


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch's own, in its jvp
@pytest.mark.parametrize(("name", "backend"), DIFFERENTIABLE)
def test_functorch(name: str, backend: str) -> None:
    value, inputs = _value_and_inputs(name, backend)
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


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_backend_names(name: str) -> None:
    public, args, kwargs = _smooth_call(name)
    with pytest.raises(ValueError, match="backend: expected None or one of 'native'"):
        public.function(*args, **kwargs, backend="abacus")
