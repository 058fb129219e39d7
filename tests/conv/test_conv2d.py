"""The convolutions beyond agreement with their reference: torch's own, layouts, gradients, backends, errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from visionops import conv2d, conv_cost, conv_transpose2d, im2col_conv2d, receptive_field
from visionops._codes import ACTIVATIONS
from visionops.conv.convolution import CONV2D

X, W, B = torch.randn(2, 4, 5, 6), torch.randn(6, 4, 3, 3), torch.randn(6)
BACKENDS = tuple(b.name for b in CONV2D.backends if b.why_not(CONV2D, "cpu", torch.float32) is None)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw: Any) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Any]]:
    """Input, weight and bias of either layout, and a window that fits."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = groups * draw(st.integers(1, 6)), groups * draw(st.sampled_from([1, 2, 5, 16, 33]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    dilation = draw(PAIRS)
    same = draw(st.booleans())
    stride = (1, 1) if same else draw(PAIRS)
    padding = "same" if same else draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 40)))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if not same:
        assume(all(s + 2 * p >= r for s, p, r in zip(size, padding, reach, strict=True)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    x = torch.randn(draw(st.integers(1, 3)), channels, *size, dtype=torch.float64, generator=generator)
    w = torch.randn(filters, channels // groups, *kernel, dtype=torch.float64, generator=generator)
    bias = torch.randn(filters, dtype=torch.float64, generator=generator) if draw(st.booleans()) else None
    x, w = (t.to(memory_format=torch.channels_last) if draw(st.booleans()) else t for t in (x, w))
    return x, w, bias, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's own: it copies the input
@settings(deadline=None, max_examples=200)
@given(convolutions())
def test_value_and_gradients_are_torchs(drawn: tuple[Tensor, Tensor, Tensor | None, dict[str, Any]]) -> None:
    x, w, bias, window = drawn
    results = []
    for function in (F.conv2d, lambda *a, **k: conv2d(*a, **k, backend="native")):
        leaves = [None if t is None else t.detach().clone().requires_grad_() for t in (x, w, bias)]
        out = function(*leaves, **window)
        (out * torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape).sin()).sum().backward()
        results.append([out, *(t.grad for t in leaves if t is not None)])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-10)


@settings(deadline=None, max_examples=100)
@given(convolutions(), st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_conv_transpose2d_is_torchs(
    drawn: tuple[Tensor, Tensor, Tensor | None, dict[str, Any]], extra: tuple[int, int]
) -> None:
    x, w, _, window = drawn
    groups, stride, dilation = window["groups"], window["stride"], window["dilation"]
    padding = (0, 0) if window["padding"] == "same" else window["padding"]
    assume(all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)))
    # A convolution's weight fits its transposed one if it has as many filters as there are channels.
    w = w[: x.shape[1]] if w.shape[0] >= x.shape[1] else w.repeat(x.shape[1], 1, 1, 1)[: x.shape[1]]
    arguments = (x, w, None, stride, padding, extra, groups, dilation)
    try:
        expected = F.conv_transpose2d(*arguments)
    except RuntimeError:  # nothing is left of the result
        with pytest.raises(ValueError, match="padding: expected one that leaves a result"):
            conv_transpose2d(*arguments)
        return
    torch.testing.assert_close(conv_transpose2d(*arguments, backend="native"), expected, rtol=1e-11, atol=1e-10)


def test_conv_transpose2d_is_the_adjoint_of_conv2d() -> None:
    x, w = torch.randn(2, 6, 11, 9, dtype=torch.float64), torch.randn(8, 3, 3, 2, dtype=torch.float64)
    y = conv2d(x, w, None, 2, 1, (2, 1), 2)
    g = torch.randn_like(y)
    back = conv_transpose2d(g, w, None, 2, 1, (0, 1), 2, (2, 1))
    assert back.shape == x.shape
    assert ((y * g).sum() - (x * back).sum()).abs() <= 1e-12 * (y * g).abs().sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
def test_channels_last_in_channels_last_out(function: Any, dtype: torch.dtype, backend: str) -> None:
    x, w = X.to(dtype), (W if function is conv2d else W.transpose(0, 1).contiguous()).to(dtype)
    plain = function(x, w, B.to(dtype), 1, 1, backend=backend)
    last = function(x.to(memory_format=torch.channels_last), w, B.to(dtype), 1, 1, backend=backend)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    error = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
    torch.testing.assert_close(last, plain, rtol=error, atol=error)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_through_every_activation(activation: str, backend: str, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    w, b = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    leaves = (x, w.requires_grad_(), b.requires_grad_())

    def call(*inputs: Tensor) -> Tensor:
        return conv2d(*inputs, 1, 1, activation=activation, backend=backend)

    assert torch.autograd.gradcheck(call, leaves, fast_mode=backend == "triton")  # interpreted
    (first,) = torch.autograd.grad((call(*leaves) ** 2).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="can be differentiated once, not twice"):
        first.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_which_backend_ran(backend: str) -> None:
    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(func.name())
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    with Recorder():
        conv2d(X, W, backend=backend)
    assert [name for name in names if name.startswith("visionops::")] == [f"visionops::conv2d_{backend}"]


def test_no_filters_and_no_channels() -> None:
    assert conv2d(X, W[:0], backend="native").shape == (2, 0, 3, 4)
    assert torch.equal(conv2d(X[:, :0], W[:, :0], B, backend="native"), B[:, None, None].expand(2, 6, 3, 4))


def test_one_image_without_a_batch() -> None:
    assert torch.equal(conv2d(X[0], W, B), conv2d(X[:1], W, B)[0])
    assert torch.equal(im2col_conv2d(X[0], W, B), im2col_conv2d(X[:1], W, B)[0])
    assert torch.equal(conv_transpose2d(X[0], W[:4], None), conv_transpose2d(X[:1], W[:4], None)[0])


def test_sixteen_bit_sums_are_float32() -> None:
    # In float16 the sum would stop growing at 2048.
    x, w = torch.ones(1, 4096, 1, 1, dtype=torch.float16), torch.ones(1, 4096, 1, 1, dtype=torch.float16)
    assert conv2d(x, w, backend="native").item() == 4096


@pytest.mark.measured
def test_scratch_memory_is_at_most_a_megabyte_a_thread() -> None:
    code = """
import re, torch, visionops
torch.set_num_threads(2)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
small = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3)
visionops.conv2d(*small, backend="native")  # what is loaded and started once
x, w = torch.ones(1, 64, 128, 128), torch.ones(64, 64, 3, 3)
result = torch.ones(1, 64, 126, 126)
del result
before = peak()
visionops.conv2d(x, w, backend="native")
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The columns would be 36 MB; the result is as large as what was freed before.
    assert int(run.stdout) <= 2 * 1024


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conv2d(X[0, 0], W), ValueError, "input: expected shape (B, C, H, W) or (C, H, W), got (5, 6)"),
        (lambda: conv2d(X.int(), W), TypeError, "input: expected dtype floating, got torch.int32"),
        (lambda: conv2d(X, W[0]), ValueError, "weight: expected shape (O, C / groups, kh, kw), got (4, 3, 3)"),
        (lambda: conv2d(X, None), TypeError, "weight: expected a torch.Tensor, got NoneType"),
        (
            lambda: conv2d(X, W.double()),
            TypeError,
            "weight: expected dtype torch.float32 as input, got torch.float64",
        ),
        (lambda: conv2d(X, W.to("meta")), TypeError, "weight: expected device cpu as input, got meta"),
        (
            lambda: conv2d(X, W[:, :3]),
            ValueError,
            "weight: expected shape (O, C / groups, kh, kw) with C=4 and groups=1, got (6, 3, 3, 3)",
        ),
        (lambda: conv2d(X, W, groups=4), ValueError, "groups: expected a divisor of 4 and 6 channels, got 4"),
        (lambda: conv2d(X, W, groups=0), ValueError, "groups: expected a divisor of 4 and 6 channels, got 0"),
        (lambda: conv2d(X, W, groups=1.0), TypeError, "groups: expected an integer, got float"),
        (lambda: conv2d(X, W, B[:5]), ValueError, "bias: expected shape (O,) with O=6, got (5,)"),
        (lambda: conv2d(X, W, B.double()), TypeError, "bias: expected dtype torch.float32 as input, got torch.float64"),
        (lambda: conv2d(X, W, stride=2, padding="same"), ValueError, "padding: 'same' expects stride 1, got (2, 2)"),
        (
            lambda: conv2d(X, W, padding="full"),
            ValueError,
            "padding: expected integers, 'same' or 'valid', got 'full'",
        ),
        (
            lambda: conv2d(X, W, dilation=3),
            ValueError,
            "kernel_size: expected one that fits into the padded image, 5x6, got (3, 3) with dilation (3, 3)",
        ),
        (
            lambda: conv2d(X, W, activation="tanh"),
            ValueError,
            "activation: expected one of None, 'relu', 'leaky_relu', 'relu6', 'silu', 'hardswish', 'gelu', got 'tanh'",
        ),
        (lambda: im2col_conv2d(X, W[:, :1]), ValueError, None),
        (
            lambda: conv_transpose2d(X, W),
            ValueError,
            "weight: expected shape (C, O / groups, kh, kw) with C=4 and groups=1, got (6, 4, 3, 3)",
        ),
        (
            lambda: conv_transpose2d(X, W[:4], output_padding=1),
            ValueError,
            "output_padding: expected less than the stride or the dilation, got 1",
        ),
        (
            lambda: conv_transpose2d(X, W[:4], padding=4),
            ValueError,
            "padding: expected one that leaves a result, got 4",
        ),
        (
            lambda: conv_cost((1, 3, 8), 4, 3),
            ValueError,
            "input_size: expected (B, C, H, W), got (1, 3, 8)",
        ),
        (lambda: conv_cost((1, 3, 8, 8), 4, 3, groups=2), ValueError, None),
        (
            lambda: receptive_field([(3,)]),
            ValueError,
            "layers: expected (kernel_size, stride) or (kernel_size, stride, dilation), got (3,)",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str | None) -> None:
    with pytest.raises(error) as caught:
        call()
    if message is not None:
        assert str(caught.value) == message


OPS = torch.ops.visionops
ONE, NONE = [1, 1], [0, 0, 0, 0]
G = torch.ones(2, 6, 3, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: OPS.conv2d_native(X[0], W, None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W[0], None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W.double(), None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X.int(), W.int(), None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W[:, :3], None, ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, B[:5], ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, B.double(), ONE, NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, [0, 1], NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, [1], NONE, ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, [0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, [-1, 0, 0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, [0, -3, 0, 0], ONE, 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, [4, 4], 1, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, ONE, 0, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, ONE, 3, 0),
        lambda: OPS.conv2d_native(X, W, None, ONE, NONE, ONE, 1, 7),
        lambda: OPS.conv_transpose2d_native(G, W, None, [5, 9], ONE, NONE, ONE, 1),
        lambda: OPS.conv_transpose2d_native(G, W, None, [5, -6], ONE, NONE, ONE, 1),
        lambda: OPS.conv_transpose2d_native(G, W[:5], None, [5, 6], ONE, NONE, ONE, 1),
        lambda: OPS.conv_transpose2d_native(G, W, B, [5, 6], ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_weight_native(G, X, [2, 3], ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_weight_native(G[:1], X, [3, 3], ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_weight_native(G, X, [3], ONE, NONE, ONE, 1),
        lambda: OPS.conv2d_weight_native(G, X.double(), [3, 3], ONE, NONE, ONE, 1),
        lambda: OPS.activation_backward_native(G, X, 1),
        lambda: OPS.activation_backward_native(G, G.double(), 1),
        lambda: OPS.activation_backward_native(G, G, -1),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[], Tensor]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call()


def test_costs_are_those_counted_by_hand() -> None:
    cost = conv_cost((2, 3, 224, 224), 64, 7, 2, 3)
    assert cost.output_size == (112, 112)
    assert cost.parameters == 64 * 3 * 49 + 64
    assert cost.macs == 2 * 64 * 112 * 112 * 3 * 49
    assert cost.bytes == 4 * (2 * 3 * 224 * 224 + cost.parameters + 2 * 64 * 112 * 112)


def test_a_receptive_field_is_where_gradients_arrive() -> None:
    layers = [((3, 5), 2, 1), (3, (1, 2), (2, 1)), (2, 2)]
    x = torch.zeros(1, 1, 41, 61, requires_grad=True)
    out: Tensor = x
    for layer in layers:
        kernel, stride, dilation = (v if isinstance(v, tuple) else (v, v) for v in (*layer, 1)[:3])
        out = conv2d(out, torch.ones(1, 1, *kernel), stride=stride, dilation=dilation)
    out[0, 0, 1, 1].backward()
    assert x.grad is not None
    rows, columns = x.grad[0, 0].nonzero().T
    assert receptive_field(layers) == (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
