"""The convolutions under torch.autocast: they compute in its dtype, as torch's do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionops import conv2d, conv_transpose2d, depthwise_conv2d, depthwise_separable_conv2d, im2col_conv2d
from visionops.nn import Conv2d, DepthwiseSeparableConv2d, InvertedResidual, PointwiseConv2d

X, W, B = torch.randn(2, 4, 9, 8), torch.randn(4, 4, 3, 3), torch.randn(4)
DTYPES = (torch.bfloat16, torch.float16)
FUNCTIONS = {
    "conv2d": (conv2d, (X, W, B)),
    "im2col_conv2d": (im2col_conv2d, (X, W, B)),
    "conv_transpose2d": (conv_transpose2d, (X, W, B)),
    "depthwise_conv2d": (depthwise_conv2d, (X, W[:, :1], B)),
    "depthwise_separable_conv2d": (
        lambda x, first, second, scale, shift: depthwise_separable_conv2d(
            x, first, second, depthwise_norm=(None, shift), pointwise_norm=[scale, shift]
        ),
        (X, W[:, :1], W[:, :, :1, :1], B, B),
    ),
}
MODULES = [
    Conv2d(4, 6, 3),
    Conv2d(4, 6, 1, activation="relu"),
    PointwiseConv2d(4, 6),
    DepthwiseSeparableConv2d(4, 6, 3, 2),
    InvertedResidual(4, 6),
]


def _name(module: Any) -> str:
    return type(module).__name__


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensors_are_cast(name: str, dtype: torch.dtype) -> None:
    function, tensors = FUNCTIONS[name]
    expected = function(*(t.to(dtype) for t in tensors))
    mixed = tensors[0].to(dtype), *tensors[1:]
    for given in (tensors, mixed, (tensors[0].to(memory_format=torch.channels_last), *tensors[1:])):
        leaves = [t.clone().requires_grad_() for t in given]
        with torch.autocast("cpu", dtype):
            torch.testing.assert_close(function(*given), expected)
            out = function(*leaves)
        assert out.dtype == dtype
        out.float().square().sum().backward()
        assert [t.grad.dtype for t in leaves] == [t.dtype for t in given]


def test_as_torchs_convolution() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(conv2d(X, W, B), F.conv2d(X, W, B))
        assert conv2d(X.double(), W.double()).dtype == F.conv2d(X.double(), W.double()).dtype == torch.float64
        with pytest.raises(TypeError, match=r"weight: expected dtype torch.bfloat16 as input, got torch.float64"):
            conv2d(X, W.double())
        with pytest.raises(TypeError, match=r"weight: expected a torch.Tensor, got NoneType"):
            conv2d(X, None)
        with torch.autocast("cpu", enabled=False):
            assert conv2d(X, W).dtype == torch.float32
        assert conv2d(X.to("meta"), W.to("meta")).dtype == torch.float32


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_modules_compute_in_its_dtype(module: nn.Module, given: torch.dtype) -> None:
    module, x = copy.deepcopy(module), X.to(given)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    expected = module.eval()(X)
    with torch.autocast("cpu", torch.bfloat16):
        results = [module(x)]
        with torch.no_grad():
            results.append(module(x))
            module.prepack()
            results.append(module(x))
    assert all(parameter.grad.dtype == torch.float32 for parameter in module.parameters())
    for result in results:
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), expected, rtol=0.05, atol=0.05)
    with torch.no_grad():
        assert module(X).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's own, as it compiles a gradient
@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_compiled(module: nn.Module) -> None:
    module = copy.deepcopy(module).eval()

    def call(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return module(x)  # type: ignore[no-any-return]

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), call(X))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(X), module(X))
    torch.testing.assert_close(compiled(X), module(X))
