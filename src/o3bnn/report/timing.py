"""Times of several ways to do the same work, measured in turns so that a change of clock or load meets all alike."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

MIN_ROUNDS = 7
MAX_ROUNDS = 101
WARM_UPS = 1


@dataclass(frozen=True)
class Timings:
    """Seconds of every round, by name; round i of every name ran next to round i of the others."""

    seconds: dict[str, tuple[float, ...]]

    @property
    def rounds(self) -> int:
        return min(len(times) for times in self.seconds.values())

    def median(self, name: str) -> float:
        """Median seconds of one run."""
        return statistics.median(self.seconds[name])

    def quartiles(self, name: str) -> tuple[float, float]:
        """Lower and upper quartile of the seconds of one run."""
        low, _, high = statistics.quantiles(self.seconds[name], n=4, method="inclusive")
        return low, high

    def speedup(self, name: str, over: str) -> tuple[float, float, float]:
        """How many times as fast as `over` `name` is: first decile, median and last decile over the rounds.

        Quartiles would not do to tell a difference from noise: of a dozen rounds of equal work, three quarters fall on
        the same side in one case of seven.
        """
        pairs = zip(self.seconds[over], self.seconds[name], strict=True)
        deciles = statistics.quantiles((slow / fast for slow, fast in pairs), n=10, method="inclusive")
        return deciles[0], deciles[4], deciles[8]


def interleaved(
    runs: Mapping[str, Callable[[], object]], budget_s: float, clock: Callable[[], float] = perf_counter
) -> Timings:
    """Time every run in turns, MIN_ROUNDS to MAX_ROUNDS rounds or until `budget_s` seconds are spent.

    Every other round goes in the opposite order, so that no run always follows the same other one.
    """
    for _ in range(WARM_UPS):
        for run in runs.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    start = clock()
    for index in range(MAX_ROUNDS):
        if index >= MIN_ROUNDS and clock() - start >= budget_s:
            break
        for name in list(runs)[:: -1 if index % 2 else 1]:
            before = clock()
            runs[name]()
            seconds[name].append(clock() - before)
    return Timings({name: tuple(times) for name, times in seconds.items()})
