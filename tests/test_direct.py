"""Calls past the dispatcher: what they return, and that whoever listens to torch's operations hears of every call."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from contract import DTYPES, cases_of, tensors
from visionops import _direct, box_iou, nms
from visionops._op import REGISTRY

BOXES = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]])
SCORES = torch.tensor([0.9, 0.8, 0.7])
EXPECTED = torch.tensor([[1, 0.75, 0], [0.75, 1, 0], [0, 0, 1]])


def direct(boxes1: Any = BOXES, boxes2: Any = BOXES, aligned: bool = False) -> Tensor | None:
    return _direct.box_iou(boxes1, boxes2, 0, aligned, 0)


def direct_nms(boxes: Any = BOXES, scores: Any = SCORES) -> Tensor | None:
    return _direct.nms(boxes, scores, 0.5, 0)


def test_small_plain_calls_are_direct() -> None:
    overlaps, kept = direct(), direct_nms()
    assert overlaps is not None
    assert kept is not None
    assert torch.equal(overlaps, EXPECTED)
    assert torch.equal(kept, torch.tensor([0, 2]))
    assert overlaps.untyped_storage().resizable()


@pytest.mark.parametrize("name", ["box_iou", "nms"])
def test_results_are_those_of_the_operation(name: str) -> None:
    for case in cases_of(REGISTRY[name]):
        for dtype in DTYPES.values():
            args, kwargs = tensors(case, dtype)
            result = REGISTRY[name].function(*args, **kwargs)
            expected = REGISTRY[name].function(*args, **kwargs, backend="native")
            assert result.dtype == expected.dtype
            assert torch.equal(result, expected), (case.name, dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *DTYPES.values()])
def test_every_dtype_of_boxes_is_direct(dtype: torch.dtype) -> None:
    overlaps = direct(BOXES.to(dtype), BOXES.to(dtype))
    assert overlaps is not None
    wide = torch.float64 if dtype in (torch.int32, torch.int64) else torch.float32
    assert overlaps.dtype == (dtype if dtype.is_floating_point else wide)
    assert torch.equal(overlaps, EXPECTED.to(overlaps.dtype))
    kept = direct_nms(BOXES.to(dtype))
    assert kept is not None
    assert torch.equal(kept, torch.tensor([0, 2]))


def test_another_default_dtype_is_not_that_of_the_result() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        overlaps = direct()
    finally:
        torch.set_default_dtype(torch.float32)
    assert overlaps is not None
    assert overlaps.dtype == torch.float32
    assert torch.equal(overlaps, EXPECTED)


class Ignored(Tensor):
    """A subclass, of which torch must be told."""


class Function(TorchFunctionMode):
    """A mode that hears of every function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Dispatch(TorchDispatchMode):
    """A mode that hears of every operation."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def profiler() -> Iterator[None]:
    with torch.autograd.profiler.profile():
        yield


LISTENERS: list[Callable[[], AbstractContextManager[Any]]] = [Function, Dispatch, profiler, forward_ad.dual_level]


@pytest.mark.parametrize("listener", LISTENERS, ids=lambda listener: listener.__name__)
def test_it_steps_aside_for_who_listens(listener: Callable[[], AbstractContextManager[Any]]) -> None:
    with listener():
        assert direct() is None
        assert direct_nms() is None
        assert torch.equal(box_iou(BOXES, BOXES), EXPECTED)
    assert direct() is not None


def test_the_profiler_names_the_operation() -> None:
    with torch.autograd.profiler.profile() as profile:
        box_iou(BOXES, BOXES)
        nms(BOXES, SCORES, 0.5)
    assert {"visionops::box_iou_native", "visionops::nms_native"} <= {event.key for event in profile.key_averages()}


def test_a_trace_holds_the_operation() -> None:
    def call(boxes: Tensor) -> Tensor:
        assert direct(boxes, boxes) is None
        return box_iou(boxes, boxes)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace is deprecated
        traced = torch.jit.trace(lambda boxes: box_iou(boxes, boxes), (BOXES,))  # type: ignore[no-untyped-call]
    assert "visionops::box_iou_native" in str(traced.graph)
    for mode in ("real", "fake", "symbolic"):
        assert "visionops.box_iou_native" in str(make_fx(call, tracing_mode=mode)(BOXES).graph)
    assert torch.equal(torch.vmap(call)(BOXES[None]), EXPECTED[None])
    gradient = torch.func.grad(lambda boxes: box_iou(boxes, BOXES).sum())(BOXES)
    assert torch.equal(gradient, torch.autograd.functional.jacobian(lambda boxes: box_iou(boxes, BOXES).sum(), BOXES))


def test_torch_compile_sees_the_operation_alone() -> None:
    compiled = torch.compile(lambda boxes: box_iou(boxes, boxes), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(BOXES), EXPECTED)


def test_gradients_are_asked_for_as_ever() -> None:
    boxes = BOXES.clone().requires_grad_()
    assert direct(boxes) is None
    assert direct(BOXES, boxes) is None
    assert box_iou(boxes, BOXES).requires_grad
    with torch.no_grad():
        overlaps = direct(boxes)
    assert overlaps is not None
    assert not overlaps.requires_grad
    with torch.inference_mode():
        overlaps = direct()
        assert overlaps is not None
        assert overlaps.is_inference()


@pytest.mark.parametrize(
    "boxes",
    [
        BOXES.numpy(),
        BOXES.as_subclass(Ignored),
        torch.nn.Parameter(BOXES, requires_grad=False),
        BOXES.t().contiguous().t(),
        BOXES[:, :3],
        BOXES[None],
        BOXES[0],
        BOXES > 1,
        torch.complex(BOXES, BOXES),
        torch.complex(BOXES, -BOXES).conj().imag,
        BOXES.to("meta"),
        BOXES.to_sparse(),
        BOXES.double(),
        torch.zeros(20000, 4),
    ],
    ids=lambda boxes: f"{type(boxes).__name__} {tuple(boxes.shape)} {boxes.dtype}",
)
def test_everything_else_is_left_to_the_operation(boxes: Any) -> None:
    assert direct(boxes, BOXES) is None
    assert direct(BOXES, boxes) is None
    if boxes.dtype != torch.float64:  # whose scores may be of another dtype
        assert direct_nms(boxes) is None


def test_a_negated_view_is_read_as_it_is() -> None:
    negated = torch.complex(BOXES, -BOXES).conj().imag
    assert negated.is_neg()
    assert torch.equal(box_iou(negated, negated), EXPECTED)


def test_what_lies_within_other_memory_is_read_there() -> None:
    memory = torch.full((9, 4), float("nan"))
    memory[3:6] = BOXES
    assert torch.equal(box_iou(memory[3:6], memory[3:6]), EXPECTED)
    assert torch.equal(box_iou(memory[3:6], memory[3:6], aligned=True), torch.ones(3))


@pytest.mark.parametrize("sizes", [(0, 0), (0, 3), (3, 0), (1, 1), (70000, 0)])
def test_empty_sets(sizes: tuple[int, int]) -> None:
    overlaps = direct(torch.zeros(sizes[0], 4), torch.zeros(sizes[1], 4))
    assert overlaps is not None
    assert overlaps.shape == sizes


def test_of_unequally_many_none_are_paired() -> None:
    assert direct(BOXES, BOXES[:2], aligned=True) is None
    assert direct_nms(BOXES, SCORES[:2]) is None
    assert direct_nms(BOXES, SCORES.long()) is None


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ("sys.modules['visionops._direct._calls'] = None", "_calls"),
        ("del torch._C._are_functorch_transforms_active", "_are_functorch_transforms_active"),
    ],
)
def test_without_what_it_needs_every_call_is_dispatched(without: str, missing: str) -> None:
    code = (
        "import sys, torch\n"
        "active = torch._C._are_functorch_transforms_active\n"
        f"{without}\n"
        "import visionops\n"
        "from visionops import _direct\n"
        "boxes = torch.tensor([[0.0, 0, 4, 4], [8, 0, 9, 1]])\n"
        "assert _direct.box_iou(boxes, boxes, 0, False, 0) is None\n"
        f"assert {missing!r} in _direct.WHY_NOT\n"
        "torch._C._are_functorch_transforms_active = active\n"
        "assert torch.equal(visionops.box_iou(boxes, boxes), torch.eye(2))\n"
        "assert visionops.nms(boxes, torch.ones(2), 0.5).tolist() == [0, 1]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
