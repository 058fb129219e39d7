"""What the documents say is so: the table, the commands and the version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import visionops
from visionops.__main__ import table

ROOT = Path(__file__).parent.parent
if not (ROOT / "README.md").exists():
    pytest.skip("not in a checkout", allow_module_level=True)


def test_readme_holds_the_generated_table() -> None:
    assert table() in (ROOT / "README.md").read_text(), "run `make table`"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_command_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_file_named_exists(document: str) -> None:
    named = re.findall(r"`((?:benchmarks|csrc|docs|examples|tests|visionops)/[\w./]+)`", (ROOT / document).read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_changelog_begins_with_the_version() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) in (visionops.__version__, "Unreleased")
