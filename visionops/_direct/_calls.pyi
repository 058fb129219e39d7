from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor

def connect(
    tensor: type[Tensor],
    listeners: tuple[Callable[[], Any], ...],
    has_function: Callable[..., bool],
    forward_ad: ModuleType,
    is_grad_enabled: Callable[[], bool],
    empty: Callable[..., Tensor],
    keywords: tuple[dict[str, Any], ...],
    /,
) -> None: ...
def box_iou(boxes1: Tensor, boxes2: Tensor, mode: int, aligned: bool, pixel_offset: int, /) -> Tensor | None: ...
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, pixel_offset: int, /) -> Tensor | None: ...
