"""`python -m visionops`: what is installed, what runs here and why the rest does not, and what ran on what."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("torch") is None:
    sys.exit("visionops: torch is not installed: of this library visionops.numpy alone runs here")

import torch

import visionops
from visionops import _direct, _native
from visionops._backend import EMULATED
from visionops._op import REGISTRY

_RAN_ON = Path(__file__).parent / "ran_on.json"


def table() -> str:
    """Operations by backends in Markdown: where each one's tests ran and passed, by the records in this tree."""
    ran_on = json.loads(_RAN_ON.read_text())
    offered = {
        name: [b.name for b in REGISTRY[name].op.backends if b is not EMULATED]
        for name in visionops.__all__
        if name in REGISTRY
    }
    columns = sorted(set().union(*offered.values()))
    lines = ["| operation | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name, backends in offered.items():
        places = ran_on.get(name, {})
        cells = [", ".join(places.get(c, [])) or "never ran" if c in backends else "" for c in columns]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def replace_table(document: Path) -> None:
    """Put the table in the place of the one that a document holds; raise ValueError unless it holds one."""
    text, count = re.subn(r"\| operation \|.*(?:\n\|.*)*", table(), document.read_text())
    if count != 1:
        raise ValueError(f"--into: expected a document with one table of operations, got {document} with {count}")
    document.write_text(text)


def report() -> str:
    """What a bug report should contain."""
    forced = os.environ.get("VISIONOPS_ISA")
    triton = "installed" if find_spec("triton") else "not installed"
    lines = [
        f"visionops {visionops.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        f"CPU library: {_native.WHY_NOT_CPU or 'loaded'}",
        f"instruction set: {_native.isa()}" + (f" (forced by VISIONOPS_ISA={forced})" if forced else ""),
        f"small calls past torch's dispatcher: {f'no: {_direct.WHY_NOT}' if _direct.WHY_NOT else 'yes'}",
        f"threads: {torch.get_num_threads()}",
        f"CUDA library: {_native.WHY_NOT_CUDA or 'loaded'}",
        f"triton: {triton}",
        "",
        "Where each operation's tests ran and passed:",
        "",
        table(),
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the report, or the table alone, or put the table into a document."""
    parser = argparse.ArgumentParser(prog="python -m visionops", description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the table of operations by backends alone")
    parser.add_argument("--into", type=Path, metavar="FILE", help="replace the table in this document")
    options = parser.parse_args()
    if options.into:
        replace_table(options.into)
    else:
        print(table() if options.table else report())


if __name__ == "__main__":
    main()
