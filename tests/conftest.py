"""Records which operation ran on what: `pytest --record-ran-on` writes visionops/ran_on.json after a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RAN_ON = Path(__file__).parent.parent / "visionops" / "ran_on.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-ran-on", action="store_true", help="update visionops/ran_on.json from what passed")


class Record:
    """Of each operation, column and place, whether all its tests passed: where reports of all processes arrive."""

    def __init__(self) -> None:
        self.passed: dict[tuple[str, str, str], bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ran_on = dict(report.user_properties).get("ran_on")
        if ran_on is not None and report.when == "call":
            key = tuple(ran_on)
            self.passed[key] = self.passed.get(key, True) and report.passed

    def pytest_sessionfinish(self) -> None:
        table = json.loads(RAN_ON.read_text()) if RAN_ON.exists() else {}
        for (operation, backend, where), passed in self.passed.items():
            places = set(table.setdefault(operation, {}).get(backend, []))
            table[operation][backend] = sorted(places | {where} if passed else places - {where})
        RAN_ON.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    # Processes that pytest-xdist starts only report.
    if config.getoption("--record-ran-on") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record())
