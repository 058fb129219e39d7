"""What a row of the table is, and how it is measured: the gate first, then everyone in turn within each round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks import peers
from benchmarks.roofs import Roof
from benchmarks.turns import Call, Turns, statistics, timed

Record = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """The inputs of a row, closed over by the calls that work on them.

    Attributes:
        ours: The call under test.
        peers: By their names in `peers.VERSIONS`; those that are not installed are left out.
        gate: Raises AssertionError unless a result of `ours` agrees with the NumPy reference; returns what it compared.
        roof: What bounds its time, if that is known.
        witness: The peer that must return exactly what `ours` does, where the gate could see only a part of it.
    """

    ours: Call
    peers: dict[str, Call]
    gate: Callable[[Any], str]
    roof: Roof | None = None
    witness: str | None = None


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: Stays the same from run to run, so that figures of different days compare.
        make: Draws the inputs, when the row's turn comes.
        asked: The least speed-up asked over a peer: 4 threads, AVX-512, transparent huge pages.
        serial: Its peers use one thread, so that what is asked falls with fewer threads of ours.
        slow: A peer takes seconds for a call; left out of a quick run.
        family: Of the rows of one family the geometric mean is asked, not each.
    """

    name: str
    make: Callable[[], Workload]
    asked: dict[str, float] = field(default_factory=dict)
    serial: bool = False
    slow: bool = False
    family: str = ""


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        budget: Seconds a row, shared equally by all who take part; a call that fits into it is made three times.
        patience: Seconds of a peer's call from which its first one, cold as it may be, is its only sample.
        compiled: Whether torch.compile takes part.
    """

    budget: float
    patience: float
    compiled: bool


FULL, QUICK = Plan(3.0, 5.0, True), Plan(0.3, 1.0, False)


def measure(row: Row, benchmark: Any, plan: Plan) -> Record:
    """Gate a row, then time it: ours by pytest-benchmark's fixture, everyone else after each of its rounds.

    Raises:
        AssertionError: our result is wrong; nothing was timed.
        RuntimeError: torch would fill every new tensor, and that be timed.
    """
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError("expected torch.use_deterministic_algorithms(False): with it torch fills every new tensor")
    work = row.make()
    seconds, result = timed(work.ours)
    gate = work.gate(result)
    rivals = {name: call for name, call in work.peers.items() if _takes_part(name, plan)}
    share = plan.budget / (1 + len(rivals))
    turns: dict[str, Turns] = {}
    record: Record = {"name": row.name, "family": row.family, "gate": gate, "asked": row.asked, "serial": row.serial}
    record["peers"] = {}
    for name, call in rivals.items():
        try:
            if name == "torch.compile":
                call()  # compiles
            first, theirs = timed(call)
        except Exception as error:  # a peer that cannot do the row does not stop it
            record["peers"][name] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
            continue
        differences = _differences(result, theirs)
        del theirs
        record["peers"][name] = {"differences": differences}
        if name == work.witness:
            assert not differences, f"{differences} indices differ from those of {name}"
            record["gate"] += f"; {name} on all"
        turns[name] = Turns(call, first, share, plan.budget)
        if first > plan.patience:
            turns[name].only_once(first)
    del result
    if work.roof is not None:
        turns["roof"] = Turns(work.roof.call, timed(work.roof.call)[0], share, plan.budget)
    record["ours"] = _interleave(Turns(work.ours, seconds, share, plan.budget), turns, benchmark)
    for name, turn in turns.items():
        if turn.samples:
            record["peers"].setdefault(name, {}).update(statistics(turn.samples, turn.iterations))
    if work.roof is not None:
        seconds = record["peers"].pop("roof")["median"] * work.roof.share
        record["roof"] = {"name": work.roof.name, "seconds": seconds}
    return record


def _takes_part(name: str, plan: Plan) -> bool:
    return peers.VERSIONS[name] is not None and (plan.compiled or name != "torch.compile")


def _interleave(ours: Turns, others: dict[str, Turns], benchmark: Any) -> Record:
    """Run all rounds; the statistics of ours."""
    done = 0

    def after_each() -> None:
        nonlocal done
        done += 1
        for turns in others.values():
            # pytest-benchmark makes one call more than its rounds
            if done <= ours.rounds and turns.is_due(done, ours.rounds):
                turns.take()
        ours.warm()

    # Of a single call it would keep the result alive through everyone else's turn.
    target = ours.call if ours.iterations > 1 else partial(_discard, ours.call)
    benchmark.pedantic(target, teardown=after_each, rounds=ours.rounds, iterations=ours.iterations)
    if benchmark.stats is None:  # --benchmark-disable: the gate was all
        return {}
    return statistics(benchmark.stats.stats.data, ours.iterations)


def _discard(call: Call) -> None:
    call()


def _differences(ours: Any, theirs: Any) -> int:
    """In how many places two results differ: numbers by more than float32's roundings, indices at all.

    Where they are not equally many, it is the indices that only one of them has.
    """
    a, b = flat(ours), flat(theirs)
    if a.shape != b.shape:
        return len(set(a.tolist()) ^ set(b.tolist()))
    return int((~torch.isclose(a, b, 1e-4, 1e-5) if a.is_floating_point() else a != b).sum())


def flat(result: Any) -> torch.Tensor:
    """All values of a result in one row: of padded indices with their counts the valid ones, of a list each in turn.

    Of indices and the scores beside them it is the indices.
    """
    if isinstance(result, tuple) and result[1].is_floating_point():
        result = result[0]
    if isinstance(result, tuple):
        indices, counts = result
        result = [row[:count] for row, count in zip(indices, counts.tolist(), strict=True)]
    parts = result if isinstance(result, list) else [result]
    return torch.cat([torch.as_tensor(part).reshape(-1) for part in parts])
