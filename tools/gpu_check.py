"""`make gpu-check`: build, tests, sanitizer and benchmarks on a machine with an NVIDIA GPU and no network.

It needs nothing but a Python that holds torch, triton, torchvision, numpy, setuptools, pytest, pybind11, cmake, ninja
and rich, and nvcc. The steps run apart: each has its time, and one that fails or is refused does not stop the others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Where what came out is copied to: a machine that is lent takes the rest with it.
OUT = os.environ.get("OUT")
PYTEST = (sys.executable, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider")
SANITIZED = ("tests/test_cuda.py", "-k", "another_stream and not 5000")
TOOL = ("compute-sanitizer", "--error-exitcode", "9", "--target-processes", "all")


@dataclass(frozen=True)
class Step:
    """A command and how long it may take."""

    name: str
    command: tuple[str, ...]
    seconds: int
    environment: dict[str, str] = field(default_factory=dict)


def steps(architecture: str) -> list[Step]:
    """What is done, in this order; eight minutes in all."""
    build = {"VISIONOPS_CUDA": "1", "VISIONOPS_CMAKE_OPTIONS": f"-DVISIONOPS_CUDA_ARCHITECTURES={architecture}-real"}
    contract = ("tests/test_contract.py", "-k", "cuda and not emulated", "--record-ran-on")
    return [
        Step("build", (sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"), 90, build),
        Step("report", (sys.executable, "-m", "visionops"), 20),
        Step("contract on the GPU", (*PYTEST, *contract), 90),
        Step("graphs, streams, waits", (*PYTEST, "tests/test_cuda.py", "tests/boxes/test_triton.py"), 70),
        Step("memcheck", (*TOOL, "--tool", "memcheck", *PYTEST, *SANITIZED), 45),
        Step("racecheck", (*TOOL, "--tool", "racecheck", *PYTEST, *SANITIZED), 45),
        Step("benchmarks", (sys.executable, "-m", "benchmarks.gpu"), 120),
    ]


def run(step: Step) -> str:
    """Run a step and say how it ended; its output goes to the terminal and, with $OUT, into a file."""
    print(f"\n=== {step.name}: {' '.join(step.command)}", flush=True)
    if shutil.which(step.command[0]) is None:
        return "REFUSED: not installed"
    start = time.monotonic()
    try:
        done = subprocess.run(
            step.command, cwd=ROOT, env=os.environ | step.environment, timeout=step.seconds, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, verdict = done.stdout, "PASS" if done.returncode == 0 else f"FAIL ({done.returncode})"
        if step.command[0] == TOOL[0] and done.returncode != 0 and "Device not supported" in output:
            verdict = "REFUSED by this machine"
    except subprocess.TimeoutExpired as expired:
        partly = expired.stdout or b""
        output = partly.decode(errors="replace") if isinstance(partly, bytes) else partly
        verdict = f"FAIL (more than {step.seconds} s)"
    print(output[-4000:], flush=True)
    if OUT:
        (Path(OUT) / f"{step.name.replace(' ', '-').replace(',', '')}.log").write_text(output[-(4 << 20) :])
    return f"{verdict} in {time.monotonic() - start:.0f} s"


def main() -> None:
    """Run the steps and end with their verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print the steps")
    parser.add_argument("--only", default="", help="the steps whose name contains this")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not options.dry_run:
        sys.exit("no GPU here: torch.cuda.is_available() is False")
    major, minor = torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)
    chosen = [step for step in steps(f"{major}{minor}") if options.only in step.name]
    if options.dry_run:
        print("\n".join(f"{step.name} (at most {step.seconds} s): {' '.join(step.command)}" for step in chosen))
        return
    verdicts = {step.name: run(step) for step in chosen}
    summary = "\n".join(f"{name:24} {verdict}" for name, verdict in verdicts.items())
    print(f"\n{summary}")
    if OUT:
        (Path(OUT) / "summary.txt").write_text(summary + "\n")
        for path in (ROOT / "visionops" / "ran_on.json", *(ROOT / "benchmarks" / "results").glob("nvidia*.json")):
            shutil.copy(path, OUT)
    sys.exit(any(verdict.startswith("FAIL") for verdict in verdicts.values()))


if __name__ == "__main__":
    main()
