"""Small calls past torch's dispatcher, which costs them more than their kernels do.

The functions here return a result or None, which says: call the torch operation. They compute only if nobody listens to
what torch does and the tensors are plain ones on the CPU, dense and few enough for one thread; all else, errors too, is
the torch operation's. Neither torch.compile nor export may see them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def _listeners() -> tuple[Callable[[], Any], ...]:
    """Each says whether somebody does: a dispatch mode, torch.func, torch.jit.trace, the profiler."""
    return (
        torch._C._len_torch_dispatch_stack,
        torch._C._are_functorch_transforms_active,
        torch._C._is_tracing,
        torch._C._autograd._profiler_enabled,
    )


# In the order of DType in csrc/common/dtype.h.
_DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


def _nothing(*args: Any) -> None:
    pass


# None, or why every call goes through the dispatcher.
WHY_NOT: str | None = None
box_iou: Callable[[Tensor, Tensor, int, bool, int], Tensor | None] = _nothing
nms: Callable[[Tensor, Tensor, float, int], Tensor | None] = _nothing
try:
    # A later torch may lack one of the private names: then too every call goes through the dispatcher.
    from visionops._direct import _calls

    _KEYWORDS = tuple({"dtype": dtype, "device": torch.device("cpu")} for dtype in _DTYPES)
    _calls.connect(
        torch.Tensor,
        _listeners(),
        torch._C._has_torch_function_variadic,
        forward_ad,
        torch.is_grad_enabled,
        torch.empty,
        _KEYWORDS,
    )
    box_iou, nms = _calls.box_iou, _calls.nms
except (ImportError, AttributeError, RuntimeError) as error:
    WHY_NOT = str(error)
