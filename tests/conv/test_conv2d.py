"""The convolutions beyond agreement with their reference: torch's own, layouts, gradients, backends, memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from contract import Recorder
from fresh import printed
from visionops import conv2d, conv_transpose2d, im2col_conv2d
from visionops._codes import ACTIVATIONS
from visionops.conv import aten
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


def ran(*args: Any, **kwargs: Any) -> list[str]:
    """The operations of this library that a call of conv2d runs."""
    with Recorder() as recorder:
        conv2d(*args, **kwargs)
    return [operation.name() for operation, _ in recorder.calls]


@pytest.mark.parametrize("backend", BACKENDS)
def test_which_backend_ran(backend: str) -> None:
    assert ran(X, W, backend=backend) == [f"visionops::conv2d_{backend}"]


@pytest.mark.parametrize(
    ("dtype", "kernel", "groups", "backend"),
    [
        (torch.float32, 1, 1, "native"),
        (torch.float32, 3, 1, "aten"),
        (torch.float32, 1, 2, "aten"),
        (torch.float64, 3, 1, "native"),
        (torch.float64, 1, 1, "aten"),
        (torch.float16, 3, 1, "native"),
        (torch.bfloat16, 3, 1, "aten"),
    ],
)
def test_the_default_is_the_backend_that_was_measured_faster(
    dtype: torch.dtype, kernel: int, groups: int, backend: str
) -> None:
    x, w = torch.ones(1, 4, 3, 3, dtype=dtype), torch.ones(2, 4 // groups, kernel, kernel, dtype=dtype)
    assert ran(x, w, groups=groups) == [f"visionops::conv2d_{backend}"]


@pytest.mark.parametrize(
    ("dtype", "layout", "side", "kernel", "stride", "backends"),
    [
        (torch.float64, torch.contiguous_format, 7, 5, 1, ("native", "native")),
        (torch.float32, torch.channels_last, 7, 3, 1, ("native", "native")),
        (torch.float32, torch.channels_last, 7, 5, 1, ("aten", "native")),
        (torch.float32, torch.contiguous_format, 28, 3, 2, ("native", "native")),
        (torch.float32, torch.contiguous_format, 14, 3, 2, ("aten", "aten")),
        (torch.float32, torch.contiguous_format, 14, 5, 2, ("aten", "native")),
        (torch.bfloat16, torch.contiguous_format, 14, 3, 1, ("native", "native")),
        (torch.bfloat16, torch.channels_last, 14, 3, 1, ("aten", "aten")),
        (torch.bfloat16, torch.channels_last, 14, 3, 2, ("aten", "native")),
        (torch.bfloat16, torch.contiguous_format, 14, 5, 1, ("aten", "native")),
    ],
)
def test_the_default_of_a_depthwise_convolution_and_with_a_gradient(
    dtype: torch.dtype, layout: torch.memory_format, side: int, kernel: int, stride: int, backends: tuple[str, str]
) -> None:
    x = torch.ones(1, 4, side, side, dtype=dtype).to(memory_format=layout)
    w = torch.ones(4, 1, kernel, kernel, dtype=dtype)
    for backend, weight in zip(backends, (w, w.clone().requires_grad_()), strict=True):
        assert ran(x, weight, stride=stride, padding=1, groups=4) == [f"visionops::conv2d_{backend}"]


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


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("padding", [[1, 1, 1, 1], [0, 1, 2, 1], [2, 1, 0, 0]])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_torchs_own_is_the_same_from_cpp_and_from_python(
    layout: torch.memory_format, padding: list[int], activation: str | None
) -> None:
    arguments = (X.to(memory_format=layout), W, B, [2, 1], padding, [1, 2], 1, ACTIVATIONS[activation])
    there, here = torch.ops.visionops.conv2d_aten(*arguments), aten.conv2d(*arguments)
    torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-6)
    assert there.stride() == here.stride()


@pytest.mark.parametrize("padding", [[1, 1, 1, 1], [0, 1, 2, 1], [2, 1, 0, 0], [0, -1, 1, -2]])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_torchs_own_gradients_are_the_same_from_cpp_and_from_python(
    layout: torch.memory_format, padding: list[int]
) -> None:
    window = [2, 1], padding, [1, 2], 2
    x, w, b = X.to(memory_format=layout), W[:, :2].contiguous(memory_format=layout), torch.randn(4)
    grad = torch.randn(aten.conv2d(x, w, None, *window, 0).shape).to(memory_format=layout)
    calls = {
        "conv2d_backward": (grad, x, w, *window),
        "conv_transpose2d": (grad, w, b, list(x.shape[2:]), *window),
        "conv2d_weight": (grad, x, list(w.shape[2:]), *window),
    }
    for name, arguments in calls.items():
        operation = getattr(torch.ops.visionops, f"{name}_aten").default
        torch.library.opcheck(operation, arguments, test_utils=("test_schema", "test_faketensor"))
        there, here = operation(*arguments), getattr(aten, name)(*arguments)
        torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)
        if name == "conv2d_backward":
            assert [part.stride() for part in there] == [x.stride(), w.stride()]


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_torchs_own_is_differentiated_twice(layout: torch.memory_format, wanted: tuple[bool, bool]) -> None:
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64).to(memory_format=layout)
    w = torch.randn(2, 2, 3, 2, dtype=torch.float64).to(memory_format=layout)
    leaves = [t.requires_grad_(is_wanted) for t, is_wanted in zip((x, w), wanted, strict=True)]

    def call(*inputs: Tensor) -> Tensor:
        return conv2d(*inputs, None, (2, 1), (1, 2), 1, 2, backend="aten")

    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_same_padding_of_which_the_smaller_half_makes_no_window(backend: str, layout: torch.memory_format) -> None:
    x, w = X[:, :, :1].to(memory_format=layout), torch.randn(2, 4, 4, 4)
    leaves = [t.clone().requires_grad_() for t in (x, w)]
    out = conv2d(*leaves, padding="same", backend=backend)
    expected = conv2d(F.pad(x, (1, 2, 1, 2)), w, backend="native")
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    out.sum().backward()
    theirs = [t.clone().requires_grad_() for t in (x, w)]
    F.conv2d(F.pad(theirs[0], (1, 2, 1, 2)), theirs[1]).sum().backward()
    for ours, leaf in zip(leaves, theirs, strict=True):
        torch.testing.assert_close(ours.grad, leaf.grad, rtol=1e-5, atol=1e-5)
    arguments = (x, w, None, [1, 1], [1, 2, 1, 2], [1, 1], 1, 0)
    torch.testing.assert_close(aten.conv2d(*arguments), expected, rtol=1e-5, atol=1e-5)


def test_a_stride_that_no_image_has() -> None:
    # The taps of a phase are found without counting up to the stride.
    result = conv_transpose2d(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 2, 2), stride=2**31 - 1, backend="native")
    assert result.tolist() == [[[[1, 1], [1, 1]]]]


@pytest.mark.measured
@pytest.mark.parametrize("threads", [1, 4])
def test_scratch_memory_is_at_most_a_megabyte_a_thread(threads: int) -> None:
    code = f"""
torch.set_num_threads({threads})
torch.ones(1 << 18).add_(1)  # starts the threads
vo.conv2d(torch.ones(1, 2, 8, 8), torch.ones(13, 2, 3, 3), backend="native")  # what is loaded once
x, w = torch.ones(1, 256, 42, 42), torch.ones(512, 256, 3, 3)
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = peak()
result = vo.conv2d(x, w, backend="native")
print(peak() - before - result.nbytes / 2**20)
"""
    # The columns would be 14 MB.
    assert 0 < float(printed(code)) <= threads
