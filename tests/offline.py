"""Compiles Triton kernels for chips that are not here, as their rooms launch them, and says what came out.

Run as a program, without TRITON_INTERPRET, it prints a row for each kernel and chip, then the same as JSON. A call of
the room's function is recorded instead of run: its launches say which kernels, types and constants to compile.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}


@dataclass(frozen=True)
class Launch:
    """A kernel with the arguments of one call."""

    name: str
    kernel: Any
    args: tuple[Any, ...]
    constants: dict[str, Any]

    def compile(self, capability: int) -> Any:
        """The kernel for sm_<capability>, specialised as Triton's launcher would."""
        values = dict(zip(self.kernel.arg_names, self.args, strict=False)) | self.constants
        signature, constants, aligned = {}, {}, {}
        for i, name in enumerate(self.kernel.arg_names):
            value = values[name]
            if name in self.constants or (isinstance(value, int) and value == 1):
                signature[name], constants[(i,)] = "constexpr", value
                continue
            signature[name] = TYPES[value.dtype] if isinstance(value, torch.Tensor) else _number(value)
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                aligned[(i,)] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, signature, constants, aligned)
        options = {name: value for name, value in self.constants.items() if name not in self.kernel.arg_names}
        options["enable_fp_fusion"] = False
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def _number(value: float) -> str:
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


@dataclass(frozen=True)
class Row:
    """What a kernel became."""

    kernel: str
    chip: str
    registers: int
    spilled_bytes: int
    rounded_divisions: int  # correctly rounded, in float32
    other_divisions: int
    wide_stores: int  # of 16 bytes


def launches(label: str, function: Callable[..., Any], *args: Any) -> Iterator[Launch]:
    """The launches of a call of a room's Triton function."""
    recorded: list[Launch] = []

    def record(kernel: Any, grid: Any, *args: Any, **constants: Any) -> None:
        recorded.append(Launch(f"{kernel.fn.__name__} {label}", kernel, args, constants))

    import_module(function.__module__)
    with ExitStack() as patches:
        for name, module in list(sys.modules.items()):
            if name.startswith("visionops.") and hasattr(module, "launch"):
                patches.enter_context(mock.patch.object(module, "launch", record))
        function(*args)
    yield from recorded


def boxes() -> Iterator[Launch]:
    """Room `boxes`: every mode in float32, and one in each other dtype."""
    from visionops._codes import IOU_MODES
    from visionops.boxes.triton_kernels import box_iou, box_iou_backward

    kinds = [(mode, torch.float32) for mode in IOU_MODES]
    kinds += [("giou", dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)]
    for mode, dtype in kinds:
        a, b, number = torch.zeros(4096, 4, dtype=dtype), torch.zeros(1024, 4, dtype=dtype), IOU_MODES[mode]
        label = f"{mode} {str(dtype).removeprefix('torch.')}"
        yield from launches(label, box_iou, a, b, number, False, 0)
        yield from launches(label, box_iou, a, a, number, True, 0)
        yield from launches(label, box_iou_backward, torch.zeros(4096, 1024, dtype=dtype), a, b, number, False, 0)
        yield from launches(label, box_iou_backward, torch.zeros(4096, dtype=dtype), a, a, number, True, 0)


def suppression() -> Iterator[Launch]:
    """Rooms `suppression` and, for its masks, `boxes`: each kind of box, score and mask."""
    from visionops.boxes.triton_kernels import mask_iou
    from visionops.suppression.triton_kernels import fast_nms_padded, mask_matrix_nms_padded, matrix_nms_padded

    masks = torch.zeros(64, 128, 128, dtype=torch.bool)
    yield from launches("masks", mask_iou, masks, masks)
    for dtype in (torch.float32, torch.float64):
        label = str(dtype).removeprefix("torch.")
        boxes, scores = torch.zeros(4096, 4, dtype=dtype), torch.zeros(4096, dtype=dtype)
        yield from launches(f"boxes {label}", fast_nms_padded, boxes, scores, None, 0.5, None, 100, 0)
        for kernel, name in enumerate(("gaussian", "linear")):
            options = kernel, 2.0, None, 100
            yield from launches(f"boxes {name} {label}", matrix_nms_padded, boxes, scores, None, *options, 0)
            yield from launches(f"masks {name} {label}", mask_matrix_nms_padded, masks, scores[:64], None, *options)


def conv() -> Iterator[Launch]:
    """Room `conv`: every kernel in each dtype, and every activation in float32."""
    from visionops._codes import ACTIVATIONS
    from visionops.conv import triton_kernels as kernels

    rest = ([2, 2], [1, 1, 1, 1], [1, 1])
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        x, w, depthwise = (torch.zeros(s, dtype=dtype) for s in ((2, 64, 28, 28), (128, 64, 3, 3), (64, 1, 3, 3)))
        grad, bias = torch.zeros(2, 128, 14, 14, dtype=dtype), torch.zeros(128, dtype=dtype)
        yield from launches(f"forward {name}", kernels.conv2d, x, w, bias, *rest, 1, ACTIVATIONS["relu"])
        yield from launches(f"forward {name}", kernels.conv2d, x, depthwise, None, *rest, 64, 0)
        separable = (x, depthwise, bias[:64], w[:, :, :1, :1], bias, *rest, ACTIVATIONS["relu6"], ACTIVATIONS["relu"])
        yield from launches(f"separable {name}", kernels.depthwise_separable_conv2d, *separable)
        yield from launches(f"transposed {name}", kernels.conv_transpose2d, grad, w, None, [28, 28], *rest, 1)
        yield from launches(f"backward {name}", kernels.conv2d_weight, grad, x, [3, 3], *rest, 1)
        yield from launches(f"backward {name}", kernels.activation_backward, grad, grad, ACTIVATIONS["gelu"])
    x, w = torch.zeros(2, 64, 28, 28), torch.zeros(128, 64, 3, 3)
    for activation, number in ACTIVATIONS.items():
        yield from launches(f"{activation} float32", kernels.conv2d, x, w, None, *rest, 1, number)


def norm() -> Iterator[Launch]:
    """Room `norm`: both layouts with relu in float32; every activation, and every other dtype, in one of them."""
    from visionops._codes import ACTIVATIONS
    from visionops.norm.triton_kernels import fused_batch_norm, fused_batch_norm_backward

    kinds = [(name, torch.float32, torch.channels_last) for name in ACTIVATIONS]
    kinds += [("relu", dtype, torch.channels_last) for dtype in (torch.float64, torch.float16, torch.bfloat16)]
    for name, dtype, layout in [*kinds, ("relu", torch.float32, torch.contiguous_format)]:
        x = torch.zeros(4, 64, 56, 56, dtype=dtype).contiguous(memory_format=layout)
        values = torch.zeros(64)
        number = ACTIVATIONS[name]
        kinked = name in ("relu", "leaky_relu", "relu6")
        label = f"{name}-{'NHWC' if layout == torch.channels_last else 'NCHW'} {str(dtype).removeprefix('torch.')}"
        forward = (x, values, values, values, values, True, 0.1, 1e-5, x, number, kinked)
        yield from launches(label, fused_batch_norm, *forward)
        bits = fused_batch_norm_bits(x) if kinked else torch.zeros(0, dtype=torch.uint8)
        statistics = values.double(), values.double()
        rest = (None if kinked else x, bits, True, 1e-5, number, True, True)
        yield from launches(label, fused_batch_norm_backward, x, x, values, values, *statistics, *rest)


def fused_batch_norm_bits(image: torch.Tensor) -> torch.Tensor:
    """As the forward call returns them."""
    from visionops.norm.fused_batch_norm import bits_shape

    return torch.zeros(bits_shape(image), dtype=torch.uint8)


ROOMS = (boxes, conv, norm, suppression)


def unique(launches: Iterator[Launch]) -> list[Launch]:
    """One launch of each name: both sides of a gradient use the same kernels."""
    return list({launch.name: launch for launch in launches}.values())


def describe(launch: Launch, capability: int) -> Row:
    """Compile, and count what matters in the result."""
    compiled = launch.compile(capability)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", cubin.name], capture_output=True, text=True, check=True)
        sass = subprocess.run([CUOBJDUMP, "-sass", cubin.name], capture_output=True, text=True, check=True).stdout
    registers = re.search(r"REG:(\d+)", usage.stdout)
    local = re.search(r"LOCAL:(\d+)", usage.stdout)
    assert registers is not None
    assert local is not None
    ptx = compiled.asm["ptx"]
    return Row(
        launch.name,
        f"sm_{capability}",
        int(registers.group(1)),
        int(local.group(1)),
        len(re.findall(r"div\.rn\.f32", ptx)),
        len(re.findall(r"div\.(?:full|approx)\.f32", ptx)),
        len(re.findall(r"STG\.E[.\w]*\.128", sass)),
    )


def main() -> None:
    """Print the rows of every room, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", default="", help="only those whose name and label match this pattern")
    parser.add_argument("--chips", type=int, nargs="+", default=[80, 90, 100], help="compute capabilities")
    options = parser.parse_args()
    rows = []
    print(f"{'kernel':46} {'chip':7} {'registers':>9} {'spills':>6} {'div.rn':>6} {'other':>6} {'16 B':>5}", flush=True)
    for room in ROOMS:
        for launch in unique(room()):
            if not re.search(options.kernels, launch.name):
                continue
            for capability in options.chips:
                row = describe(launch, capability)
                rows.append(row)
                print(f"{row.kernel:46} {row.chip:7} {row.registers:9} {row.spilled_bytes:6} "
                      f"{row.rounded_divisions:6} {row.other_divisions:6} {row.wide_stores:5}", flush=True)  # fmt: skip
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
