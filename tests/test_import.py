"""What an import costs: a call on the CPU loads neither Triton nor torch's compilers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton runs here")
def test_a_call_on_the_cpu_imports_no_compiler() -> None:
    code = (
        "import sys, torch, visionops\n"
        "visionops.box_iou(torch.zeros(1, 4), torch.zeros(1, 4))\n"
        "assert not {'triton', 'torch._dynamo', 'torch._inductor'} & set(sys.modules)\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
