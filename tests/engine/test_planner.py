"""The planner: what it tries, when it prefers a method to dense, and that a plan never changes a bit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3bnn import Engine, _native
from o3bnn.engine import StagePlan, plan_engine, planner
from o3bnn.engine.checks import LOOK_COST, MAX_CHECKS, suggest_checks, tile_ends
from o3bnn.engine.machine import cpu_name
from o3bnn.engine.saved import network_checksum
from o3bnn.errors import InputError
from o3bnn.model import reference
from o3bnn.model.decisions import Decisions
from tests.engine import networks

NETWORKS = {name: networks.build(recipe) for name, recipe in networks.AWKWARD.items()}
POOLED = NETWORKS["windows with a remainder"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("isa", _native.available_isas())
def test_a_plan_fits_and_changes_no_bit(name, isa, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", isa)
    network, pictures = NETWORKS[name], networks.images(NETWORKS[name], 3)
    plan = plan_engine(network, pictures, seconds=1e-3)
    assert (plan.isa, plan.cpu, plan.images, plan.source) == (isa, cpu_name(), 3, "images given")
    assert plan.network == network_checksum(network)
    assert [choice.name for choice in plan.stages] == [stage.name for stage in network.stages]
    assert plan.dense_seconds > 0 and plan.planned_seconds > 0
    for choice in plan.stages:
        assert choice.candidates[0].label == "dense" and choice.candidates[0].speedup == (1, 1, 1)
        assert {"dense", "words"} <= {candidate.method for candidate in choice.candidates}
    engine = Engine(network, threads=1, plan=plan)
    assert engine.plan is plan
    assert engine.stages == tuple(StagePlan(choice.method, choice.checks) for choice in plan.stages)
    trace = reference.run(network, pictures)
    np.testing.assert_array_equal(engine.run(pictures), trace.logits)
    for found, wanted in zip(engine.activations(pictures), trace.stages, strict=True):
        np.testing.assert_array_equal(found, wanted.bits)


def test_every_offered_method_is_a_candidate():
    plan = plan_engine(POOLED, seconds=1e-3)
    methods = planner.offered_methods(POOLED, plan.isa)
    for choice, offered in zip(plan.stages, methods, strict=True):
        assert {candidate.method for candidate in choice.candidates} >= set(offered) - {"threshold"}
    assert plan.source == "random pixels"
    assert plan.images == len(planner.random_images(POOLED))


def choose(*speeds):
    """The choice among dense and rivals, given the seconds of each in every round."""
    plans = [StagePlan("dense"), StagePlan("pooling"), StagePlan("threshold", (3,))][: len(speeds)]
    return planner._choose("stage", plans, [], np.array(speeds, float).T)


ROUNDS = 20
STEADY = [1.0] * ROUNDS


def test_a_clear_win_is_taken():
    choice = choose(STEADY, [0.9] * ROUNDS)
    assert choice.method == "pooling"
    assert choice.reason == "1.11x as fast as dense (1.11 to 1.11 in half of the rounds)"


def test_the_fastest_of_several_is_taken():
    choice = choose(STEADY, [0.9] * ROUNDS, [0.8] * ROUNDS)
    assert (choice.method, choice.checks) == ("threshold", (3,))
    assert choice.chosen.seconds == 0.8


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([1.2] * ROUNDS, "slower: pooling, 0.83x"),
        ([0.98] * ROUNDS, "no clear win: pooling, 1.02x"),
        ([0.9] * 12 + [1.1] * 8, "no clear win: pooling, 1.11x"),
    ],
    ids=["slower", "too little", "not in enough rounds"],
)
def test_dense_stays_without_a_clear_win(times, reason):
    choice = choose(STEADY, times)
    assert (choice.method, choice.checks, choice.reason) == ("dense", (), reason)


def test_dense_stays_where_nothing_else_is_offered():
    assert choose(STEADY).reason == "nothing else is offered here"


def test_a_noisy_machine_does_not_decide():
    """Equal work with 30% of noise is dense: quartiles on both sides of 1."""
    rng = np.random.default_rng(3)
    noisy = [choose(rng.uniform(1, 1.3, 40), rng.uniform(1, 1.3, 40)).method for _ in range(200)]
    assert set(noisy) == {"dense"}


def test_interruptions_do_not_count():
    """One image in ten is interrupted for 40 times as long as it takes; the rest varies by 10%."""
    rng = np.random.default_rng(5)
    steady = rng.uniform(1, 1.1, (50, 8, 3))
    interrupted = np.where(rng.random(steady.shape) < 0.1, 40 * steady, steady)
    found = planner.without_interruptions(interrupted)
    assert found.max() < 1.5 * 1.1
    np.testing.assert_array_equal(found[interrupted < 2], steady[interrupted < 2])
    np.testing.assert_array_equal(planner.without_interruptions(steady), steady)


class FakeEngine:
    """An engine that takes a given time by a clock of its own."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.threads = clock, seconds, 1

    def sums(self, images):
        self.clock.now += self.seconds


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("seconds", "kept"), [(0.5, True), (1.0, True), (1.01, False), (2.0, False)])
def test_a_plan_that_is_slower_as_a_whole_is_given_up(seconds, kept, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(planner, "perf_counter", clock)
    monkeypatch.setattr(planner, "Engine", lambda *_, **__: FakeEngine(clock, seconds))
    choices = [choose(STEADY, [0.9] * ROUNDS), choose(STEADY)]
    pictures = networks.images(POOLED, 2)
    found, times = planner._confirm(POOLED, FakeEngine(clock, 1.0), pictures, choices, 1.0)
    assert times == pytest.approx((1.0, seconds) if kept else (1.0, 1.0))
    assert [choice.method for choice in found] == (["pooling", "dense"] if kept else ["dense", "dense"])
    if not kept:
        assert found[0].reason.startswith("the network as a whole was slower with pooling, though alone it was 1.11x")
        assert found[0].candidates == choices[0].candidates
        assert found[1] == choices[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "seconds = 0 is not a positive number"),
        ({"seconds": float("nan")}, "seconds = nan"),
        ({"seconds": float("inf")}, "seconds = inf"),
        ({"threads": 0}, "threads = 0"),
        ({"images": np.zeros((0, 9, 10, 2), np.uint8)}, "there are no images to time: pass at least one"),
        ({"images": np.zeros((1, 9, 10, 3), np.uint8)}, r"images have shape \(1, 9, 10, 3\)"),
        ({"images": np.zeros((1, 9, 10, 2), np.float32)}, "images are float32"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        plan_engine(POOLED, **options)


def test_progress_only_grows_and_ends_at_one():
    told = []
    plan_engine(POOLED, seconds=1e-3, threads=2, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


def expected_words(ends, checks, words):
    """Mean cost of a tile, straight from the definition."""
    total = 0.0
    for end in ends:
        reached = next((check for check in checks if check >= end), words)
        total += reached + LOOK_COST * sum(check <= reached for check in checks)
    return total / len(ends)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(2, 9), st.data())
def test_suggested_checks_are_the_best_ones(words, data):
    """Against every set of places, for each number of looks."""
    ends = data.draw(st.lists(st.integers(1, words), min_size=1, max_size=12))
    found = suggest_checks(np.array(ends)[:, None], words)
    assert [len(checks) for checks in found] == sorted({len(checks) for checks in found})
    costs = [expected_words(ends, checks, words) for checks in found]
    assert all(cost < words for cost in costs)
    assert all(later < earlier for earlier, later in itertools.pairwise(costs))
    best = min(
        expected_words(ends, checks, words)
        for count in range(MAX_CHECKS + 1)
        for checks in itertools.combinations(range(1, words), count)
    )
    assert min([float(words), *costs]) == pytest.approx(best)


def test_no_checks_without_words_or_gain():
    assert suggest_checks(np.array([[1], [1]]), 1) == []
    assert suggest_checks(np.empty((0, 1), np.int64), 9) == []
    assert suggest_checks(np.full((5, 1), 9), 9) == []


def test_tiles_end_with_their_last_channel():
    words = np.array([[1, 5, 2, 3, 9], [0, 0, 4, 1, 0]])
    ends = tile_ends(Decisions(words, words > 0), 2)
    np.testing.assert_array_equal(ends, [[5, 3, 9], [0, 4, 0]])
