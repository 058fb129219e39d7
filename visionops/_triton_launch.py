"""The one place where Triton kernels are launched."""

from __future__ import annotations

from typing import Any

import torch
from torch.library import wrap_triton

from visionops._backend import INTERPRETED


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Run a kernel on the device of its first argument, a tensor, each product and sum rounded on its own.

    Under tracing torch launches it, which has no such option: there a product may be fused with a sum, and results
    differ in the last bit. An operation whose result is a decision must not be traced into.
    """
    # Older versions of torch refuse to wrap what is interpreted.
    wrapped = kernel if INTERPRETED else wrap_triton(kernel)
    if wrapped is not kernel:
        wrapped[grid](*args, **constants)
        return
    with torch.cuda.device_of(args[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*args, enable_fp_fusion=False, **constants)
