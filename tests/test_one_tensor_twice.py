"""One tensor as two arguments of an operation that is compiled with its gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from visionops import box_iou, conv2d, fused_batch_norm

MEAN, VAR = torch.rand(3), torch.rand(3) + 1
CALLS = {
    "box_iou": lambda x, w: box_iou(*[x[0, 0]] * 2),
    "residual": lambda x, w: fused_batch_norm(x, None, None, MEAN, VAR, residual=x),
    "weight and bias": lambda x, w: fused_batch_norm(x, w, w, None, None, True, residual=x),
    "conv2d": lambda x, w: conv2d(x, x[:, :, 1:3, 1:3]) + conv2d(x, x),
}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's own, as it compiles a gradient
@pytest.mark.parametrize("name", CALLS)
def test_one_tensor_twice(name: str) -> None:
    call: Callable[[Tensor, Tensor], Tensor] = CALLS[name]
    torch._dynamo.reset()
    results = []
    for function in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(3, 3, 4, 4, generator=generator).requires_grad_()
        w = torch.rand(3, generator=generator).requires_grad_()
        out = function(x, w)
        (out * torch.arange(out.numel()).reshape(out.shape).sin()).sum().backward()
        results.append((out, x.grad, w.grad))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
