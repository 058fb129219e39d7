"""The options and fixtures of `pytest benchmarks`: threads and how long to measure."""

from __future__ import annotations

import os

import pytest
import torch

from benchmarks import peers
from benchmarks.row import FULL, QUICK, Plan


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("visionops")
    group.addoption("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of every library")
    group.addoption(
        "--quick", action="store_true", help="few rounds, no torch.compile, no row whose peer takes seconds"
    )
    group.addoption("--rows", default="", help="only the rows whose name contains this")


def pytest_configure(config: pytest.Config) -> None:
    peers.set_threads(config.getoption("--threads"))


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> Plan:
    return QUICK if pytestconfig.getoption("--quick") else FULL


@pytest.fixture(autouse=True)
def memory_as_it_comes() -> None:
    """Takes back what the suite asks of torch for every test: to fill new tensors is no part of an operation's time."""
    torch.use_deterministic_algorithms(False)
