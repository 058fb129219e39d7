"""`make abi-check`: one wheel, built once, passes the tests under several versions of torch.

Each version has an environment of its own under .venv-abi, made when it is missing. The tests run from a copy beside
no sources, so that only the wheel can be imported. Where torch is a CUDA build, the CUDA library must load and
register.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "abi"
TORCHES = ("2.10.0", "2.11.0", "2.13.0", "2.14.1")
BUILD_SECONDS = 120  # of the CPU part; users of other libraries wait for half an hour
NEEDED = ("numpy", "pytest", "pytest-xdist", "hypothesis", "shapely")
TESTS = (
    "test_contract.py",
    "test_pains.py",
    "test_numpy.py",
    "boxes",
    "suppression",
    "roi",
    "pool",
    "norm",
    "conv",
    "nn",
)
REGISTERED = """
import torch, visionops
from visionops import _native
from visionops.suppression.nms import NMS
print("torch", torch.__version__, "CUDA library:", _native.WHY_NOT_CUDA or "loaded")
assert not torch.version.cuda or NMS.has_cuda_kernel, torch._C._dispatch_dump("visionops::nms_native")
"""


def run(*command: object, cwd: Path = ROOT) -> str:
    """The command's output; its failure ends the program with that."""
    # The sources must not be found, nor the libraries built beside them.
    unset = ("PYTHONPATH", "VISIONOPS_EMULATION")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def build_wheel() -> Path:
    """The wheel, with its CUDA part where nvcc is; first without, against the clock."""
    for folder in (BUILD, ROOT / "dist"):
        shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    fresh = BUILD / "sources"
    shutil.copytree(ROOT, fresh, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.so", "*.egg-info"))
    for cuda in ("0", "1") if shutil.which("nvcc") else ("0",):
        start = time.monotonic()
        run("env", f"VISIONOPS_CUDA={cuda}", *pip, "--wheel-dir", ROOT / "dist", fresh)
        seconds = time.monotonic() - start
        print(f"wheel {'with' if cuda == '1' else 'without'} CUDA: {seconds:.0f} s", flush=True)
        if cuda == "0" and seconds > BUILD_SECONDS:
            sys.exit(f"the wheel took {seconds:.0f} s to build, more than {BUILD_SECONDS}")
    (wheel,) = (ROOT / "dist").glob("*.whl")
    return wheel


def environment(torch: str) -> Path:
    """The Python that has this torch and what the tests need."""
    folder = ROOT / ".venv-abi" / torch
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        run(sys.executable, "-m", "venv", folder)
        pins = re.findall(r"^([\w-]+==\S+?)(?:;.*)?$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
        chosen = {pin.split("==")[0]: pin for pin in reversed(pins)}
        run(python, "-m", "pip", "install", "--quiet", f"torch=={torch}", *(chosen[name] for name in NEEDED))
        (folder / ".installed").touch()
    return python


def check(wheel: Path, torch: str) -> str:
    """Install the wheel and run the tests; one line about it."""
    python = environment(torch)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel)
    copy = BUILD / torch
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__", "test_kept_boxes.py"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    loaded = run(python, "-c", REGISTERED, cwd=copy).strip()
    report = run(python, "-m", "pytest", "-q", "-n", "auto", *(f"tests/{name}" for name in TESTS), cwd=copy)
    return f"{loaded}; {report.strip().splitlines()[-1]}"


def main() -> None:
    """Check every version asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torch", nargs="*", default=TORCHES, help=f"versions, default: {' '.join(TORCHES)}")
    versions = parser.parse_args().torch
    wheel = build_wheel()
    for version in versions:
        print(check(wheel, version), flush=True)


if __name__ == "__main__":
    main()
