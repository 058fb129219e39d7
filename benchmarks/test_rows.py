"""Every row as a test on pytest-benchmark: red if its result is wrong, timed if not."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest

import benchmarks
from benchmarks.row import Plan, Record, Row, measure

ROOMS = [
    import_module(f"benchmarks.{module.name}")
    for module in iter_modules(benchmarks.__path__)
    if module.name.startswith("bench_")
]

# torch.compile and old peers warn; the suite's rule that warnings are errors is about our own code.
pytestmark = pytest.mark.filterwarnings("ignore")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    rows = [
        row
        for room in ROOMS
        for row in room.rows()
        if option("--rows").lower() in row.name.lower() and not (option("--quick") and row.slow)
    ]
    metafunc.parametrize("row", rows, ids=[row.name for row in rows])


def test_row(row: Row, benchmark: Any, plan: Plan, record_property: Callable[[str, Any], None]) -> None:
    record: Record = {"name": row.name}
    try:
        record = measure(row, benchmark, plan)
    except Exception as error:
        record["red"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        benchmark.extra_info.update(record)
        record_property("record", record)
