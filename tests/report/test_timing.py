"""Interleaved timing, on a clock that the test turns."""

import pytest

from o3bnn.report import timing
from o3bnn.report.timing import Timings, interleaved


class Clock:
    """Seconds that pass only when a run says so; also who ran, in order."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def run(self, name, *seconds):
        left = list(seconds)

        def work():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_runs_take_turns_in_alternating_order():
    clock = Clock()
    found = interleaved({"a": clock.run("a", 100, 1), "b": clock.run("b", 200, 2)}, budget_s=0, clock=clock)
    assert "".join(clock.calls) == "ab" + ("abba" * timing.MIN_ROUNDS)[: 2 * timing.MIN_ROUNDS]
    assert found.rounds == timing.MIN_ROUNDS
    assert found.seconds == {"a": (1,) * timing.MIN_ROUNDS, "b": (2,) * timing.MIN_ROUNDS}  # warm-ups are not counted


@pytest.mark.parametrize(("budget", "rounds"), [(0, 7), (60, 20), (59, 20), (61, 21), (10_000, 101)])
def test_the_budget_ends_between_rounds(budget, rounds):
    clock = Clock()
    runs = {"a": clock.run("a", 1), "b": clock.run("b", 2)}
    assert interleaved(runs, budget_s=budget, clock=clock).rounds == rounds


def test_statistics():
    found = Timings({"off": (4.0, 8.0, 12.0, 16.0, 20.0), "on": (4.0, 4.0, 4.0, 4.0, 10.0)})
    assert found.median("off") == 12
    assert found.quartiles("off") == (8, 16)
    assert found.speedup("on", "off") == pytest.approx((1.4, 2, 3.6))  # of 1, 2, 3, 4, 2
