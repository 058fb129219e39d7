"""im2col and col2im beyond agreement with their reference: adjointness, layouts, torch's own, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from visionops import channel_shuffle, col2im, im2col, im2col_conv2d

IMAGE = torch.arange(24.0).reshape(1, 2, 3, 4)

SIDES = st.tuples(st.integers(1, 4), st.integers(1, 4))
WINDOWS = st.tuples(SIDES, SIDES, st.tuples(st.integers(0, 3), st.integers(0, 3)), SIDES)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 20))


def _fits(shape: tuple[int, ...], window: Any) -> bool:
    kernel, dilation, padding, _ = window
    return all(
        size + 2 * p >= d * (k - 1) + 1 for size, k, d, p in zip(shape[2:], kernel, dilation, padding, strict=True)
    )


@settings(deadline=None, max_examples=200)
@given(SHAPES, WINDOWS, st.booleans(), st.integers(0, 2**32))
def test_they_are_torchs_and_each_others_adjoint(
    shape: tuple[int, int, int, int], window: Any, channels_last: bool, seed: int
) -> None:
    assume(_fits(shape, window))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    columns = im2col(x, *window)
    assert torch.equal(columns, F.unfold(x, *window))
    g = torch.randn(columns.shape, dtype=torch.float64, generator=generator)
    back = col2im(g, shape[2:], *window)
    torch.testing.assert_close(back, F.fold(g, shape[2:], *window), rtol=1e-14, atol=1e-13)
    products = (columns * g).sum(), (x * back).sum()
    scale = (columns * g).abs().sum()
    assert (products[0] - products[1]).abs() <= 1e-12 * (1 + scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_channels_last_is_read_in_place(dtype: torch.dtype) -> None:
    x = torch.randn(2, 5, 6, 7).to(dtype)
    assert torch.equal(im2col(x.to(memory_format=torch.channels_last), 3, 1, 1, 2), im2col(x, 3, 1, 1, 2))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_channel_shuffle_is_torchs_and_undone_by_the_other_count_of_groups(layout: torch.memory_format) -> None:
    x = torch.randn(2, 12, 3, 5).to(memory_format=layout)
    shuffled = channel_shuffle(x, 3)
    assert torch.equal(shuffled, F.channel_shuffle(x, 3))
    assert shuffled.is_contiguous(memory_format=layout)
    assert torch.equal(channel_shuffle(shuffled, 4), x)
    assert torch.equal(channel_shuffle(x[0], 3), shuffled[0])


def test_one_image_without_a_batch() -> None:
    columns = im2col(IMAGE[0], 2)
    assert torch.equal(columns, im2col(IMAGE, 2)[0])
    assert torch.equal(col2im(columns, (3, 4), 2), col2im(columns[None], (3, 4), 2)[0])


def test_sixteen_bit_sums_do_not_lose_small_terms() -> None:
    # Nine times 2049 / 2048 in float16 would round at every step.
    columns = torch.full((1, 9, 1), 1 + 2.0**-10, dtype=torch.float16)
    assert col2im(columns.expand(1, 9, 25), (5, 5), 3, 1, 1)[0, 0, 2, 2] == torch.tensor(9 * (1 + 2.0**-10)).half()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: im2col(IMAGE[0, 0], 2), ValueError, "input: expected shape (B, C, H, W) or (C, H, W), got (3, 4)"),
        (lambda: im2col(IMAGE.int(), 2), TypeError, "input: expected dtype floating, got torch.int32"),
        (lambda: channel_shuffle(IMAGE, 3), ValueError, "groups: expected a divisor of 2 channels, got 3"),
        (lambda: channel_shuffle(IMAGE, 1.0), TypeError, "groups: expected an integer, got float"),
        (lambda: im2col([1], 2), TypeError, "input: expected a torch.Tensor, got list"),
        (
            lambda: im2col(IMAGE, (2, 2, 2)),
            ValueError,
            "kernel_size: expected an integer or (height, width), got (2, 2, 2)",
        ),
        (lambda: im2col(IMAGE, 2.0), TypeError, "kernel_size: expected an integer or (height, width), got 2.0"),
        (lambda: im2col(IMAGE, 0), ValueError, "kernel_size: expected 1 or more, got 0"),
        (lambda: im2col(IMAGE, 2, stride=(0, 1)), ValueError, "stride: expected 1 or more, got (0, 1)"),
        (lambda: im2col(IMAGE, 2, dilation=-1), ValueError, "dilation: expected 1 or more, got -1"),
        (lambda: im2col(IMAGE, 2, padding=-1), ValueError, "padding: expected 0 or more, got -1"),
        (
            lambda: im2col(IMAGE, 3, dilation=2),
            ValueError,
            "kernel_size: expected one that fits into the padded image, 3x4, got (3, 3) with dilation (2, 2)",
        ),
        (
            lambda: col2im(IMAGE, (3, 4), 2),
            ValueError,
            "input: expected shape (B, C kh kw, L) or (C kh kw, L), got (1, 2, 3, 4)",
        ),
        (
            lambda: col2im(torch.ones(1, 3, 4), (3, 3), 2),
            ValueError,
            "input: expected a multiple of 4 rows, one per tap, got (1, 3, 4)",
        ),
        (
            lambda: col2im(torch.ones(1, 4, 5), (3, 3), 2),
            ValueError,
            "input: expected 4 columns, one per window, got (1, 4, 5)",
        ),
        (lambda: col2im(torch.ones(1, 4, 4), (3, -3), 2), ValueError, "output_size: expected 0 or more, got (3, -3)"),
        (
            lambda: col2im(torch.ones(1, 4, 4) > 0, (3, 3), 2),
            TypeError,
            "input: expected dtype floating, got torch.bool",
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


OPS = torch.ops.visionops
ONE, NONE = [1, 1], [0, 0, 0, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: OPS.im2col_native(IMAGE[0], [2, 2], ONE, NONE, ONE),
        lambda: OPS.im2col_native(IMAGE.int(), [2, 2], ONE, NONE, ONE),
        lambda: OPS.im2col_native(IMAGE, [2], ONE, NONE, ONE),
        lambda: OPS.im2col_native(IMAGE, [2, 0], ONE, NONE, ONE),
        lambda: OPS.im2col_native(IMAGE, [2, 2**40], [2**40, 1], NONE, ONE),
        lambda: OPS.im2col_native(IMAGE, [2, 2], ONE, [0, 0, -1, 0], ONE),
        lambda: OPS.im2col_native(IMAGE, [2, 2], ONE, [0, 0], ONE),
        lambda: OPS.im2col_native(IMAGE, [2, 2], ONE, NONE, [1, 0]),
        lambda: OPS.im2col_native(IMAGE, [4, 4], ONE, NONE, ONE),
        lambda: OPS.channel_shuffle_native(IMAGE, 3),
        lambda: OPS.channel_shuffle_native(IMAGE, 0),
        lambda: OPS.channel_shuffle_native(IMAGE[0], 1),
        lambda: OPS.col2im_native(IMAGE, [3, 4], [2, 2], ONE, NONE, ONE),
        lambda: OPS.col2im_native(torch.ones(1, 4, 5), [3, 3], [2, 2], ONE, NONE, ONE),
        lambda: OPS.col2im_native(torch.ones(1, 3, 4), [3, 3], [2, 2], ONE, NONE, ONE),
        lambda: OPS.col2im_native(torch.ones(1, 4, 4), [-3, 3], [2, 2], ONE, NONE, ONE),
        lambda: OPS.col2im_native(torch.ones(1, 4, 4), [3], [2, 2], ONE, NONE, ONE),
    ],
)
def test_the_torch_operations_assert_what_memory_safety_needs(call: Callable[[], Tensor]) -> None:
    # Exported graphs call them without the public functions' checks.
    with pytest.raises((ValueError, RuntimeError)):
        call()


def test_a_product_without_filters() -> None:
    for groups in (1, 2):
        result = im2col_conv2d(torch.ones(2, 4, 5, 5), torch.ones(0, 4 // groups, 3, 3), groups=groups)
        assert result.shape == (2, 0, 3, 3)
