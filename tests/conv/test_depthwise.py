"""Depthwise, pointwise and separable convolutions beyond their reference: torch's own, layouts, gradients, errors."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fresh import printed
from visionops import depthwise_conv2d, depthwise_separable_conv2d, pointwise_conv2d

X, D, P = torch.randn(2, 4, 6, 7), torch.randn(4, 1, 3, 3), torch.randn(5, 4, 1, 1)
NORM = (torch.rand(4), torch.randn(4))
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@settings(deadline=None, max_examples=150)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 9), st.integers(1, 36)),
    st.integers(1, 40),
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(LAYOUTS),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_separable_is_both_convolutions_of_torch(
    shape: tuple[int, ...], filters: int, kernel: Any, stride: Any, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    channels, padding = shape[1], (kernel[0] // 2, kernel[1] // 2)
    x = torch.randn(shape, dtype=dtype, generator=generator).to(memory_format=layout)
    first = torch.randn(channels, 1, *kernel, dtype=dtype, generator=generator)
    second = torch.randn(filters, channels, 1, 1, dtype=dtype, generator=generator) / channels**0.5
    expected = F.conv2d(F.relu(F.conv2d(x, first, None, stride, padding, 1, channels)), second)
    actual = depthwise_separable_conv2d(
        x, first, second, stride=stride, padding=padding, depthwise_activation="relu", backend="native"
    )
    tolerance = 1e-11 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    alone = depthwise_conv2d(x, first, None, stride, padding, backend="native")
    whole = F.conv2d(x, first, None, stride, padding, 1, channels)
    torch.testing.assert_close(alone, whole, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("channels", "filters"), [(1200, 290), (5000, 40)])
def test_sums_longer_than_scratch_are_taken_in_parts(channels: int, filters: int, layout: torch.memory_format) -> None:
    x = torch.randn(2, channels, 5, 9).to(memory_format=layout)
    first, second = torch.randn(channels, 1, 3, 3), torch.randn(filters, channels, 1, 1) / channels**0.5
    expected = F.conv2d(F.hardswish(F.conv2d(x, first, None, 2, 1, 1, channels)), second)
    actual = depthwise_separable_conv2d(x, first, second, stride=2, padding=1, depthwise_activation="hardswish")
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


# Large enough to be shared out in pieces; the filters of the first are packed at once, the second's in blocks.
@pytest.mark.parametrize(("shape", "filters"), [((1, 64, 150, 121), 100), ((2, 512, 41, 25), 500)])
def test_it_does_not_matter_which_thread_takes_a_piece(shape: tuple[int, ...], filters: int) -> None:
    x = torch.randn(shape).to(memory_format=torch.channels_last)
    first, second = torch.randn(shape[1], 1, 3, 3), torch.randn(filters, shape[1], 1, 1) / shape[1] ** 0.5
    expected = F.conv2d(F.conv2d(x, first, None, 1, 1, 1, shape[1]), second)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            actual = depthwise_separable_conv2d(x, first, second, padding=1, backend="native")
            if threads == 1:
                torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
                expected = actual
            assert torch.equal(actual, expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 140),
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(LAYOUTS),
    st.booleans(),
)
def test_triton_is_native(
    shape: tuple[int, ...], filters: int, kernel: Any, stride: Any, layout: torch.memory_format, shifted: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(memory_format=layout)
    first = torch.randn(shape[1], 1, *kernel, generator=generator)
    second = torch.randn(filters, shape[1], 1, 1, generator=generator) / shape[1] ** 0.5
    norm = (None, torch.randn(shape[1], generator=generator)) if shifted else None
    options: Any = {"stride": stride, "padding": (kernel[0] // 2, kernel[1] // 2)}

    def call(device: str, backend: str) -> Tensor:
        moved = options | {"depthwise_norm": None if norm is None else (None, norm[1].to(device))}
        tensors = (t.to(device) for t in (x, first, second))
        return depthwise_separable_conv2d(*tensors, **moved, pointwise_activation="relu6", backend=backend)

    native, triton = call("cpu", "native"), call("cuda" if torch.cuda.is_available() else "cpu", "triton")
    torch.testing.assert_close(triton.cpu(), native, rtol=1e-4, atol=1e-4)
    assert triton.stride() == native.stride()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_channels_last_in_channels_last_out(dtype: torch.dtype, activation: str | None) -> None:
    x, d, p, norm = X.to(dtype), D.to(dtype), P.to(dtype), tuple(t.to(dtype) for t in NORM)
    options = {"depthwise_norm": norm, "depthwise_activation": activation, "stride": 2, "padding": 1}
    plain = depthwise_separable_conv2d(x, d, p, **options)
    last = depthwise_separable_conv2d(x.to(memory_format=torch.channels_last), d, p, **options)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    error = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
    torch.testing.assert_close(last, plain, rtol=error, atol=error)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", [None, "relu6"])
def test_gradients_of_every_argument(layout: torch.memory_format, activation: str | None) -> None:
    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64).requires_grad_()

    x = torch.randn(2, 3, 5, 4, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    leaves = (x, leaf(3, 1, 3, 2), leaf(4, 3, 1, 1), leaf(3), leaf(3), leaf(4), leaf(4))

    def call(x: Tensor, d: Tensor, p: Tensor, *norms: Tensor) -> Tensor:
        return depthwise_separable_conv2d(
            x,
            d,
            p,
            stride=2,
            padding=1,
            depthwise_norm=norms[:2],
            depthwise_activation=activation,
            pointwise_norm=norms[2:],
            backend="native",
        )

    assert torch.autograd.gradcheck(call, leaves)
    with torch.no_grad():
        fused = call(*leaves)
    torch.testing.assert_close(fused, call(*leaves), rtol=1e-12, atol=1e-12)
    mapped = torch.func.vmap(call)(*(torch.stack([t, t]) for t in leaves))
    torch.testing.assert_close(mapped[1], fused, rtol=1e-12, atol=1e-12)


def test_the_fused_operation_has_its_schema_and_shape_rule() -> None:
    operation = torch.ops.visionops.depthwise_separable_conv2d_native.default
    for x in (X, X.to(memory_format=torch.channels_last)):
        arguments = (x, D, NORM[1], P, None, [2, 1], [1, 1, 0, 1], [1, 1], 1, 0)
        torch.library.opcheck(operation, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.measured
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("shape", [(1, 1024, 7, 1024), (2, 144, 56, 24), (1, 512, 14, 512)])
def test_scratch_memory_is_at_most_a_megabyte_a_thread(shape: tuple[int, ...], threads: int) -> None:
    code = f"""
torch.set_num_threads({threads})
def block(batch, channels, side, filters):
    x = torch.ones(batch, channels, side, side).to(memory_format=torch.channels_last)
    return x, torch.ones(channels, 1, 3, 3), torch.ones(filters, channels, 1, 1)
def call(*block):
    return vo.depthwise_separable_conv2d(*block, padding=1, backend="native")
big = block{shape}
# What is loaded and started once, threads of torch among them; their scratch is what is measured.
torch.ones(1 << 22).exp_()
call(*block(1, 1, 8, 1))
result = torch.ones({shape[0]}, {shape[3]}, {shape[2]}, {shape[2]})
del result
before = peak()
call(*big)
print(peak() - before)
"""
    assert float(printed(code)) <= threads


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_filters_and_no_images(layout: torch.memory_format) -> None:
    x = X.to(memory_format=layout)
    assert depthwise_separable_conv2d(x, D, P[:0]).shape == (2, 0, 4, 5)
    assert depthwise_separable_conv2d(x[:0], D, P).shape == (0, 5, 4, 5)


def test_one_image_without_a_batch() -> None:
    one = depthwise_separable_conv2d(X[0], D, P)
    assert torch.equal(one, depthwise_separable_conv2d(X[:1], D, P)[0])
    assert torch.equal(depthwise_conv2d(X[0], D), depthwise_conv2d(X[:1], D)[0])
    assert torch.equal(pointwise_conv2d(X[0], P), pointwise_conv2d(X[:1], P)[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: depthwise_conv2d(X, D[:3]),
            ValueError,
            "weight: expected shape (C m, 1, kh, kw) with C=4, got (3, 1, 3, 3)",
        ),
        (
            lambda: depthwise_conv2d(X, P),
            ValueError,
            "weight: expected shape (C m, 1, kh, kw) with C=4, got (5, 4, 1, 1)",
        ),
        (lambda: depthwise_conv2d(X, 3), TypeError, "weight: expected a torch.Tensor, got int"),
        (lambda: pointwise_conv2d(X, D), ValueError, "weight: expected shape (O, C, 1, 1), got (4, 1, 3, 3)"),
        (
            lambda: depthwise_separable_conv2d(X, D[:2], P),
            ValueError,
            "depthwise_weight: expected shape (C, 1, kh, kw) with C=4, got (2, 1, 3, 3)",
        ),
        (
            lambda: depthwise_separable_conv2d(X, D, D),
            ValueError,
            "pointwise_weight: expected shape (O, C, 1, 1), got (4, 1, 3, 3)",
        ),
        (
            lambda: depthwise_separable_conv2d(X, D, P[:, :3]),
            ValueError,
            "pointwise_weight: expected shape (O, C / groups, kh, kw) with C=4 and groups=1, got (5, 3, 1, 1)",
        ),
        (
            lambda: depthwise_separable_conv2d(X, D.double(), P),
            TypeError,
            "depthwise_weight: expected dtype torch.float32 as input, got torch.float64",
        ),
        (
            lambda: depthwise_separable_conv2d(X, D, P, depthwise_norm=NORM[0]),
            TypeError,
            "depthwise_norm: expected None or (scale, shift), got Tensor",
        ),
        (
            lambda: depthwise_separable_conv2d(X, D, P, pointwise_norm=NORM),
            ValueError,
            "pointwise_norm scale: expected shape (5,), got (4,)",
        ),
        (
            lambda: depthwise_separable_conv2d(X, D, P, depthwise_norm=(NORM[0], NORM[1].double())),
            TypeError,
            "depthwise_norm shift: expected dtype torch.float32 as input, got torch.float64",
        ),
        (
            lambda: depthwise_separable_conv2d(X, D, P, pointwise_activation="tanh"),
            ValueError,
            "pointwise_activation: expected one of None, 'relu', 'leaky_relu', 'relu6', 'silu', 'hardswish', 'gelu', "
            "got 'tanh'",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def _native(*arguments: Any) -> Tensor:
    return torch.ops.visionops.depthwise_separable_conv2d_native(*arguments)  # type: ignore[no-any-return]


REST = ([1, 1], [0, 0, 0, 0], [1, 1], 0, 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _native(X[0], D, None, P, None, *REST),
        lambda: _native(X, D[:2], None, P, None, *REST),
        lambda: _native(X, P, None, P, None, *REST),
        lambda: _native(X, D, None, D, None, *REST),
        lambda: _native(X, D, None, P[:, :3], None, *REST),
        lambda: _native(X, D.double(), None, P, None, *REST),
        lambda: _native(X, D, None, P.double(), None, *REST),
        lambda: _native(X, D, NORM[0][:3], P, None, *REST),
        lambda: _native(X, D, None, P, NORM[0], *REST),
        lambda: _native(X[:, :0], D[:0], None, P[:, :0], None, *REST),
        lambda: _native(X, D, None, P, None, [0, 1], *REST[1:]),
        lambda: _native(X, D, None, P, None, *REST[:3], 7, 0),
        lambda: _native(X, D, None, P, None, *REST[:3], 0, -1),
    ],
)
def test_the_torch_operation_asserts_what_memory_safety_needs(call: Callable[[], Tensor]) -> None:
    # Exported graphs call it without the public function's checks.
    with pytest.raises((ValueError, RuntimeError)):
        call()
