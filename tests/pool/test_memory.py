"""What windows far larger than an image need of memory."""

from __future__ import annotations

import pytest

from fresh import printed


@pytest.mark.measured
@pytest.mark.parametrize(
    "call",
    [
        "max_pool2d(x, 3, 1 << 24, 0, 1 << 23, True)",
        "max_pool2d(x.to(memory_format=torch.channels_last), 3, 1 << 24, 0, 1 << 23, True)",
        "avg_pool2d(x, 6001, 1, 3000, divisor_override=1)",
    ],
)
def test_it_does_not_grow_with_what_lies_beside_the_image(call: str) -> None:
    code = f"""
from visionops import avg_pool2d, max_pool2d
x = torch.arange(72, dtype=torch.float16).reshape(1, 2, 6, 6).requires_grad_()
max_pool2d(x, 2).sum().backward()
avg_pool2d(x, 2).sum().backward()
x.grad, before = None, peak()
{call}.sum().backward()
print(peak() - before, x.grad.sum().item())
"""
    megabytes, total = map(float, printed(code).split())
    assert megabytes < 8
    assert total == pytest.approx(2 if "max" in call else 72 * 6**2)
