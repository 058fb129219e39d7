"""`python -m benchmarks`: run the rows under pytest-benchmark, print the table, write JSON, RESULTS.md and the plot."""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine, peers, processes, report
from benchmarks.row import Record

HERE = Path(__file__).parent
PARTIAL = Path("build/benchmarks")
BUSY = 1.0  # load in the minute before from which figures are not worth keeping


class Watch:
    """A pytest plugin that shows how far the run is, and keeps its records."""

    def __init__(self, progress: Progress) -> None:
        """The bar appears with the first row."""
        self.progress = progress
        self.bar = progress.add_task("collecting", total=None)
        self.records: list[Record] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The number of rows is known."""
        self.progress.update(self.bar, total=len(session.items))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A row begins."""
        self.progress.update(self.bar, description=item.name.removeprefix("test_row"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A row ends."""
        if report.when == "call":
            self.records += [value for _, value in report.user_properties if isinstance(value, dict)]
            self.progress.advance(self.bar)


def main() -> int:
    """Run, print, write; 0 if every row was right."""
    options = _options()
    console = Console(file=sys.stdout)
    peers.set_threads(options.threads)
    described = machine.describe(options.threads)
    if described["load"] > BUSY:
        console.print(f"[yellow]load {described['load']}: a thread without a core makes everyone wait for it[/yellow]")
    records, code, said = _repeat(options) if options.processes > 1 else _run(options, console)
    # A run that was interrupted leaves the last figures alone.
    if not records or code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        console.print(said, markup=False)
        return code or 1
    run = {"machine": described, "rows": records}
    # Not to a terminal, a table as wide as it needs to be.
    (console if console.is_terminal else Console(file=sys.stdout, width=240)).print(report.table(run))
    for line in report.means(run):
        console.print(line, markup=False, highlight=False)
    for path in report.write(options.output, described, records):
        console.print(f"wrote {path}", markup=False, highlight=False)
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("filter", nargs="?", default="", help="only the rows whose name contains this")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every library")
    parser.add_argument("--processes", type=int, default=1, help="measure in so many, and report each row's median one")
    parser.add_argument("--quick", action="store_true", help="a minute: few rounds, no torch.compile, no slow peers")
    parser.add_argument("--output", type=Path, help="default: benchmarks/, or build/benchmarks/ of a part of the suite")
    options = parser.parse_args()
    # A part must not replace the figures of the whole.
    options.output = options.output or (PARTIAL if options.quick or options.filter else HERE)
    return options


def _repeat(options: argparse.Namespace) -> tuple[list[Record], int, str]:
    """As _run, in processes of their own."""
    arguments = [options.filter] + ["--quick"] * options.quick
    runs, code = processes.repeat(arguments, options.threads, options.processes)
    return processes.middle(runs), code, ""


def _run(options: argparse.Namespace, console: Console) -> tuple[list[Record], int, str]:
    """The records, pytest's exit code and what it said."""
    arguments = [str(HERE), "--benchmark-only", "--capture=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    arguments += [f"--threads={options.threads}", f"--rows={options.filter}"] + ["--quick"] * options.quick
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # The bar only moves between rows: a thread that redraws it would take a core's time from them.
    with Progress(*columns, console=console, auto_refresh=False) as progress, redirect_stdout(io.StringIO()) as said:
        watch = Watch(progress)
        code = int(pytest.main(arguments, plugins=[watch]))
    return watch.records, code, said.getvalue()


if __name__ == "__main__":
    sys.exit(main())
