"""What is inside the built libraries: the stable ABI and nothing else of torch, no spills, wide loads."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

import visionops

PACKAGE = Path(visionops.__file__).parent
CPU, CUDA = PACKAGE / "libvisionops.so", PACKAGE / "libvisionops_cuda.so"
needs_cuda = pytest.mark.skipif(not CUDA.exists(), reason="libvisionops_cuda.so was not built (VISIONOPS_CUDA=1)")


def cuobjdump() -> str | None:
    """CUDA's, or the one that Triton brings."""
    triton = find_spec("triton")
    bundled = Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump" if triton and triton.origin else None
    return shutil.which("cuobjdump") or (str(bundled) if bundled and bundled.exists() else None)


def listed(*command: object) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("library", [CPU, pytest.param(CUDA, marks=needs_cuda)], ids=lambda path: path.name)
def test_needs_the_stable_abi_alone(library: Path) -> None:
    symbols = [line.split()[-1] for line in listed("nm", "-D", "--undefined-only", library).splitlines()]
    # torch's own C++ names differ from version to version: of at::, c10:: and torch:: there may be none.
    assert [name for name in symbols if re.match(r"_ZNK?(2at|3c10|5torch)", name)] == []
    assert [name for name in symbols if name.startswith(("aoti_torch_", "torch_"))]
    assert "RPATH" not in listed("readelf", "-d", library)
    assert "RUNPATH" not in listed("readelf", "-d", library)


@pytest.mark.parametrize("module", ["_direct/_calls", "numpy/_kernels"])
def test_python_modules_need_nothing_of_torch(module: str) -> None:
    (library,) = PACKAGE.glob(f"{module}.*.so")
    symbols = [line.split()[-1] for line in listed("nm", "-D", "--undefined-only", library).splitlines()]
    assert [name for name in symbols if re.match(r"_ZNK?(2at|3c10|5torch)|aoti_|torch_", name)] == []
    assert "torch" not in listed("readelf", "-d", library)


@needs_cuda
@pytest.mark.skipif(cuobjdump() is None, reason="no cuobjdump")
def test_kernels_for_hopper_do_not_spill() -> None:
    usage = listed(cuobjdump(), "-arch", "sm_90", "-res-usage", CUDA)
    found = re.findall(r"Function (\S*visionops\S*):\s+REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage)
    assert found, usage
    for name, registers, stack, local in found:
        print(f"{registers:>4} registers  {name}")
        assert (stack, local) == ("0", "0"), name


@needs_cuda
@pytest.mark.skipif(cuobjdump() is None, reason="no cuobjdump")
def test_boxes_are_read_by_16_bytes() -> None:
    sass = listed(cuobjdump(), "-arch", "sm_90", "-sass", CUDA)
    functions = dict(re.findall(r"Function : (\S+)(.*?)(?=Function : |\Z)", sass, re.DOTALL))
    kernels = {name: code for name, code in functions.items() if re.search("visionops.*(resolve|sweep)", name)}
    assert kernels
    for name, code in kernels.items():
        assert re.search(r"LDG\.E[.\w]*\.128", code), name
