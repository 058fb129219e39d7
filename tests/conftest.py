"""Records which operation ran on what: `pytest --record-ran-on` writes visionops/ran_on.json after a green run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RAN_ON = Path(__file__).parent.parent / "visionops" / "ran_on.json"
_outcomes = pytest.StashKey[dict[tuple[str, str, str], bool]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-ran-on", action="store_true", help="update visionops/ran_on.json from what passed")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_outcomes] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    ran_on = dict(item.user_properties).get("ran_on")
    if ran_on is not None and report.when == "call":
        outcomes = item.config.stash[_outcomes]
        outcomes[ran_on] = outcomes.get(ran_on, True) and report.passed
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--record-ran-on"):
        return
    table = json.loads(RAN_ON.read_text()) if RAN_ON.exists() else {}
    for (operation, backend, where), passed in session.config.stash[_outcomes].items():
        places = set(table.setdefault(operation, {}).get(backend, []))
        table[operation][backend] = sorted(places | {where} if passed else places - {where})
    RAN_ON.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
