"""Taking turns: how often a library's call is made, and what its samples say."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

Call = Callable[[], Any]

TURN = 1e-3  # seconds: a call shorter than this is repeated within its turn
WARMED = 0.1  # seconds: a call shorter than this is made untimed before its turn, to have caches of its own
WARMING = 5e-3  # seconds that takes, or one call: the second call that writes 13 MB may take half as long again as the
# sixth, in libraries alike
MOST_ROUNDS = 30


class Turns:
    """The repeated calls of one library: how many a turn, how many turns, and the seconds a call took in each."""

    def __init__(self, call: Call, seconds: float, share: float, budget: float) -> None:
        """Seconds is how long the first call took, share what all turns may take, budget the row's."""
        self.call = call
        self.samples: list[float] = []
        for _ in range(5 if seconds < TURN * 100 else 0):
            seconds = min(seconds, timed(call)[0])
        self.is_warmed = seconds < WARMED
        self.iterations = max(1, round(TURN / seconds))
        self.rounds = min(MOST_ROUNDS, max(1 if seconds > budget else 3, int(share / (seconds * self.iterations))))

    def only_once(self, seconds: float) -> None:
        """The first call was too long to repeat: it is the sample."""
        self.samples, self.rounds = [seconds], 0

    def warm(self) -> None:
        """What the others left in the caches and in the allocator is no part of a call's time."""
        start = perf_counter()
        while self.is_warmed:
            self.call()
            if perf_counter() - start > WARMING:
                return

    def take(self) -> None:
        """One turn. Each result is freed before the next call, as in a program that uses it and goes on."""
        self.warm()
        start = perf_counter()
        for _ in range(self.iterations):
            self.call()
        self.samples.append((perf_counter() - start) / self.iterations)

    def is_due(self, after: int, rounds: int) -> bool:
        """Whether to take a turn after this one of all rounds, so that fewer turns are spread evenly over them."""
        turns = min(self.rounds, rounds)
        return after * turns // rounds > (after - 1) * turns // rounds


def timed(call: Call) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    start = perf_counter()
    result = call()
    return perf_counter() - start, result


def statistics(samples: list[float], iterations: int) -> dict[str, float]:
    """Seconds a call over the rounds."""
    p10, median, p90 = np.percentile(samples, (10, 50, 90)).tolist()
    return {"median": median, "p10": p10, "p90": p90, "rounds": len(samples), "iterations": iterations}
