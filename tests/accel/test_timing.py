"""Work and the cycle of a PE: rules T1 to T16 of docs/timing.md, each with tests named after its number."""

import re
from pathlib import Path

import numpy as np
import pytest

from o3bnn.accel import simulate
from o3bnn.model import ConvGeometry, edges
from tests.accel.machines import (
    BITS,
    DECIDE,
    DISPATCH,
    ISSUE,
    LOAD,
    ONE,
    RETIRE,
    SQUASH,
    ZERO,
    Run,
    conv,
    image,
    machine,
)

RULES = Path(__file__).parents[2] / "docs" / "timing.md"
NEVER = 1 << 20
WINDOW = ((2, 2), (2, 2))


def test_every_rule_has_a_test():
    rules = [int(number) for number in re.findall(r"^- \*\*T(\d+) ", RULES.read_text(), re.MULTILINE)]
    files = Path(__file__).parent.glob("test_*.py")
    tested = {int(n) for file in files for n in re.findall(r"^def test_t(\d+)_", file.read_text(), re.MULTILINE)}
    assert rules == list(range(1, len(rules) + 1))
    assert tested == set(rules)


def test_t1_words_without_edges_take_no_cycle():
    network = conv((3, 3, 8), 1, kernel=3, padding=1, threshold=0)
    run = Run(network, machine().machine("dense"))
    assert run[0].words["useful"] == 4 * 4 + 4 * 6 + 9
    assert run[0].edges.dense == 8 * (4 * 4 + 4 * 6 + 9)


def test_t2_integers_take_a_word_a_bit_plane_most_significant_first():
    network = conv((1, 1, 8), 1, threshold=8 * (2 * 127 - 255), table=(2 * np.arange(256) - 255).astype(np.int16))
    assert Run(network, machine().machine("dense"))[0].words["useful"] == 8
    bright = Run(network, machine(stations=1, speculate=False), image(network, 255))
    assert bright[0].words["useful"] == 1, "the most significant plane decides"
    assert bright[0].edges.evaluated == 8
    assert bright[0].edges.dense == 64


def test_t3_the_output_stage_is_evaluated_whole():
    network = conv((4, 4, 8), 3)
    for kind in ("dense", "inorder", "o3"):
        result = simulate(network, image(network), machine(), machine=kind)
        assert result.stages[1].edges.evaluated == result.stages[1].edges.dense == 48


def test_t4_constants_take_no_word_unless_dense():
    network = conv((2, 2, 8), 3, threshold=[0, 4, NEVER])
    assert Run(network, machine())[0].words["useful"] == 4
    assert Run(network, machine().machine("dense"))[0].words["useful"] == 12
    assert Run(network, machine())[0].edges.constant == 8 * 8


def test_t4_a_constant_that_comes_last_settles_its_window_at_once():
    """Three neurons of three border classes under one window; only the last is constant, and its bit decides."""
    places = ConvGeometry(1, 3, 8, 1, (3, 3), padding=(1, 1, 1, 1)).class_map.reshape(-1).tolist()
    assert sorted(places) == [0, 1, 2]
    thresholds = [[0] if border == places[-1] else [1] for border in range(3)]
    network = conv((1, 3, 8), 1, kernel=3, padding=1, pool=((1, 3), (1, 3)), threshold=thresholds)
    found = Run(network, machine())[0]
    assert found.words["useful"] == 0
    assert (found.edges.constant, found.edges.pooling) == (2 * 8, 2 * 8 + 3 * 8)


def test_t5_groups_take_strips_in_turn():
    run = Run(conv((4, 4, 8), 1), machine(pes=4), choice=(1, 2, 1))
    assert run[0].mapping == "4 x 1 x 1 by 2"
    assert [event["window"] for event in run.events(LOAD)[:4]] == [0, 2, 4, 6]


def test_t5_the_last_strips_go_to_the_groups_that_need_them_first():
    """Seven windows, two groups: the seventh waits until a group is down to one window, though there is room for it."""
    network = conv((1, 7, 64), 1, threshold=60)
    run = Run(network, machine(pes=2, depth=4), choice=(1, 1, 1))
    assert run[0].mapping == "2 x 1 x 1"
    loaded = {event["window"]: event["cycle"] for event in run.events(LOAD)}
    assert [loaded[window] for window in range(6)] == [0] * 6
    assert loaded[6] == run.cycles(ISSUE, window=2)[-1]


OVERLAPPING = conv((5, 5, 8), 1, pool=((3, 3), (2, 2)), threshold=8)
"""Two rows of two windows, which share the five neurons of the third row."""


def test_t5_strips_share_neurons_through_the_neuron_map():
    """No neuron fires, so that every one is needed; each strip is a row of windows."""
    pixels = image(OVERLAPPING, ZERO)
    shared = Run(OVERLAPPING, machine(pes=2), pixels, choice=(1, 2, 1))
    apart = Run(OVERLAPPING, machine(pes=2, map_bytes=(1, 1)), pixels, choice=(1, 2, 1))
    assert shared[0].mapping == apart[0].mapping == "2 x 1 x 1 by 2"
    assert (shared[0].words["useful"], shared[0].words["halo"]) == (25, 0)
    assert (apart[0].words["useful"], apart[0].words["halo"]) == (25, 5)
    assert len(shared.events(DISPATCH)) == 25
    for run in (shared, apart):
        assert run[0].edges.evaluated + run[0].edges.pruned == 25 * 8


def test_t5_a_neuron_in_flight_in_another_strip_is_left_to_it():
    """One window a strip, side by side: the second one finds every neuron of the shared column in flight or decided."""
    network = conv((3, 5, 64), 1, pool=((3, 3), (2, 2)), threshold=64)
    run = Run(network, machine(pes=2, stations=1, loader_words=256), image(network, ZERO), choice=(1, 1, 1))
    assert run[0].mapping == "2 x 1 x 1"
    assert run[0].words["halo"] == 0
    assert (
        sum(event["position"] % 3 == 2 for event in run.events(DISPATCH, pe=0))
        + sum(event["position"] % 3 == 0 for event in run.events(DISPATCH, pe=1))
        == 3
    ), "each neuron of the shared column is dispatched once"


def test_t5_lockstep_takes_bits_over_too():
    run = Run(OVERLAPPING, machine().machine("dense"), choice=(1, 2, 1))
    assert run[0].mapping == "1 x 1 x 1 by 2"
    assert (run[0].words["useful"], run[0].words["halo"]) == (25, 0)


def test_t5_a_strip_waits_for_its_rows_in_the_neuron_map():
    """Two strips of three rows that share one take five; of 10 bits each, four fit in the five bytes left."""
    pixels = image(OVERLAPPING, ZERO)
    tight = Run(OVERLAPPING, machine(pes=2, map_bytes=(3, 3)), pixels, choice=(1, 2, 1))
    retired = {event["window"]: event["cycle"] for event in tight.events(RETIRE)}
    loaded = {event["window"]: event["cycle"] for event in tight.events(LOAD)}
    assert loaded[2] == retired[1]
    assert tight[0].words["halo"] == 0


def test_t6_one_word_a_cycle_in_order():
    run = Run(conv((1, 1, 80), 4), machine(stations=4))
    cycles = run.cycles(ISSUE)
    assert len(set(cycles)) == len(cycles)
    for neuron in {event["neuron"] for event in run.events(ISSUE)}:
        words = [event["value"] for event in run.events(ISSUE, neuron=neuron)]
        assert words == list(range(len(words)))


@pytest.mark.parametrize("latency", [1, 3, 7])
def test_t7_a_decision_comes_latency_cycles_after_its_word(latency):
    run = Run(conv((1, 1, 64), 1, threshold=9), machine(latency=latency, speculate=False))
    issued = run.cycles(ISSUE)
    assert run.cycles(DECIDE) == [issued[1] + latency]


def test_t8_words_that_cannot_be_decided_yet_issue_back_to_back():
    """Threshold 40 of 64: five words of 8 are needed at least, so none before the fifth waits; the sixth would."""
    run = Run(conv((1, 1, 64), 1, threshold=25), machine(speculate=False))
    issued = run.cycles(ISSUE)
    assert issued == [issued[0] + i for i in (0, 1, 2, 3)], "the first three cannot decide, the fourth does"
    zeros = conv((1, 1, 64), 1, threshold=33)
    run = Run(zeros, machine(speculate=False), image(zeros, ZERO))
    assert len(run.cycles(ISSUE)) == 4
    mixed = image(conv((1, 1, 64), 1), ZERO)
    mixed[..., ::2] = ONE
    run = Run(conv((1, 1, 64), 1, threshold=17), machine(speculate=False), mixed)
    gaps = np.diff(run.cycles(ISSUE)).tolist()
    assert gaps == [1, 1, 2, 3], (
        "4 of 8 match: the third word could be the 17th match, so the fourth waits for the second"
    )


def test_t9_oldest_and_round_robin():
    network = conv((1, 1, 80), 3, threshold=40)
    oldest = [event["neuron"] for event in Run(network, machine(stations=3)).events(ISSUE)]
    assert oldest == sorted(oldest), "a neuron that cannot be decided keeps the turn"
    turns = [event["neuron"] for event in Run(network, machine(stations=3, policy="round_robin")).events(ISSUE)]
    assert turns == [0, 1, 2] * 5 + [1, 2], "the last two turns are speculative words of neurons that still wait"


def test_t10_speculation_only_where_nothing_is_ready():
    network = conv((1, 1, 64), 1, threshold=1)
    on, off = Run(network, machine()), Run(network, machine(speculate=False))
    assert (on[0].words["overrun"], off[0].words["overrun"]) == (2, 0)
    assert off[0].stalls["decision"] > 0
    many = Run(conv((1, 1, 64), 8, threshold=1), machine(stations=8, latency=2))
    assert many[0].words["overrun"] <= 2, "with other neurons ready, only the last ones speculate"


def test_t11_a_station_is_free_when_its_last_word_issues():
    run = Run(conv((1, 1, 16), 2, threshold=16), machine(stations=1))
    assert run.cycles(DISPATCH)[1] == run.cycles(ISSUE, neuron=0)[-1]


def test_t11_a_station_is_free_when_its_neuron_is_decided():
    run = Run(conv((1, 1, 64), 2, threshold=9), machine(stations=1, speculate=False))
    assert run.cycles(ISSUE, neuron=0) == [2, 3], "six words of the first neuron never issue"
    assert run.cycles(DISPATCH)[1] == run.cycles(DECIDE, neuron=0)[0]


@pytest.mark.parametrize("bits", [ZERO, ONE])
def test_t11_no_station_is_held_longer(bits):
    """Stations in use, cycle by cycle: from the one after the dispatch to the last word's, or before the end."""
    network = conv((2, 4, 48), 2, pool=WINDOW, threshold=[9, 40])
    run = Run(network, machine(stations=4, latency=5), image(network, bits))
    held = 0
    for start in run.events(DISPATCH):
        words = run.events(ISSUE, neuron=start["neuron"])
        ends = [e["cycle"] for kind in (DECIDE, SQUASH) for e in run.events(kind, neuron=start["neuron"])]
        last = [e["cycle"] + 1 for e in words if e["value"] == 5]
        held += min(ends + last) - start["cycle"] - 1
    assert run[0].station_cycles == held
    assert bool(run.events(SQUASH)) == (bits == ONE)


def test_t12_dispatch_then_issue_in_the_next_cycle_lowest_slot_of_the_oldest_window_first():
    run = Run(conv((1, 3, 8), 2, threshold=4), machine(stations=2, depth=2))
    dispatched = run.events(DISPATCH)
    assert run.cycles(ISSUE)[0] == dispatched[0]["cycle"] + 1
    assert [(e["window"], e["channel"]) for e in dispatched] == [(w, c) for w in range(3) for c in range(2)]
    cycles = [e["cycle"] for e in dispatched]
    assert len(set(cycles)) == len(cycles), "one a cycle"


def test_t13_speculative_dispatch_only_without_other_work():
    network = conv((2, 2, 16), 1, pool=WINDOW, threshold=16)
    speculative = Run(network, machine(stations=4)).events(DISPATCH)
    assert [e["value"] for e in speculative][:2] == [0, 1]
    assert all(e["value"] == 0 for e in Run(network, machine(stations=4, speculate=False)).events(DISPATCH))
    many = conv((2, 2, 16), 8, pool=WINDOW, threshold=16)
    assert sum(e["value"] for e in Run(many, machine(stations=8), image(many, ZERO)).events(DISPATCH)) <= 4


def test_t13_speculative_dispatch_only_where_nothing_issued():
    network = conv((2, 2, 16), 1, pool=WINDOW, threshold=16)
    run = Run(network, machine(stations=4), image(network, ZERO))
    ahead = run.cycles(DISPATCH, value=1)
    assert ahead
    assert not set(ahead) & set(run.cycles(ISSUE))
    assert ahead[0] == run.cycles(ISSUE, neuron=0)[-1] + 1, "the first cycle without a word"


def test_t13_a_speculative_neuron_is_not_ready_until_the_earlier_ones_are_known():
    """Neurons of 12 words, of which six are ready at once; the second window is loaded while n1, speculative, issues.

    Three neurons a window; n0 and n1 are the first window's first two, n2 is the second window's first.
    """
    network = conv((2, 7, 24), 1, kernel=2, pool=((1, 3), (1, 3)), threshold=49)
    run = Run(network, machine(stations=3, latency=16, loader_words=1), image(network, ZERO))
    start = run.cycles(DISPATCH)[0]
    assert [(e["window"], e["position"], e["value"], e["cycle"] - start) for e in run.events(DISPATCH)[:3]] == [
        (0, 0, 0, 0),
        (0, 1, 1, 13),
        (1, 0, 0, 18),
    ]
    assert run.cycles(DECIDE)[0] - start == 22
    issued = [[cycle - start for cycle in run.cycles(ISSUE, neuron=n)] for n in range(3)]
    assert issued[1][:6] == [14, 15, 16, 17, 18, 22], "it yields to n2, which is younger, until n0 is known"
    assert issued[2][:6] == [19, 20, 21, 23, 24, 25]


def test_t14_a_decisive_bit_squashes_the_rest_of_its_window():
    network = conv((2, 2, 16), 1, pool=WINDOW, threshold=16)
    run = Run(network, machine(stations=4))
    decided = run.cycles(DECIDE)
    assert len(decided) == 1
    assert run.cycles(SQUASH)
    assert set(run.cycles(SQUASH)) == {decided[0]}
    assert max(run.cycles(ISSUE)) < decided[0]
    assert run[0].words["squashed"] == len(run.events(ISSUE)) - run[0].words["useful"] - run[0].words["overrun"]
    assert run[0].edges.pooling == 3 * 16


@pytest.mark.parametrize("fired", [(0,), (0, 1), (1,)])
def test_t14_a_neuron_stays_while_another_window_reads_it(fired):
    """Two windows, columns 0..2 and 1..3, with column 2 in flight for the first one when a bit settles that.

    Column 0, known in cycle 8, settles the first window only; column 1, in cycle 9, whatever is still open.
    """
    network = conv((1, 4, 16), 1, pool=((1, 3), (1, 1)), threshold=8)
    pixels = image(network, ZERO)
    pixels[0, fired] = ONE
    run = Run(network, machine(stations=4, latency=6), pixels, choice=(1, 2, 1))
    assert run.events(DECIDE)[0]["cycle"] == 8 + fired[0]
    (shared,) = run.events(DISPATCH, window=0, position=2)
    assert run.cycles(ISSUE, neuron=shared["neuron"]) == [7, 8]
    left = [9] if 1 in fired else []
    assert run.cycles(SQUASH, neuron=shared["neuron"]) == left
    assert run.cycles(DECIDE, neuron=shared["neuron"]) == ([] if left else [14])
    assert len(run.events(SQUASH)) == {(0,): 0, (0, 1): 1, (1,): 2}[fired]


def test_t15_the_bounds_unit_paces_dispatch_and_may_decide_before_the_first_word():
    network = conv((1, 1, 64), 3, threshold=60)
    run = Run(network, machine(stations=4, bounds="sharp", bounds_words=2), image(network, ZERO))
    assert np.diff(run.cycles(DISPATCH)).tolist() == [4, 4]
    assert not run.cycles(ISSUE), "no match is possible: the bounds decide"
    assert run.cycles(DECIDE) == [cycle + 3 for cycle in run.cycles(DISPATCH)]


def test_a_long_wait_for_the_bounds_unit_is_no_deadlock():
    network = conv((1, 1, 700), 2, threshold=680)
    run = Run(network, machine(word=1, bounds="sharp", bounds_words=1), image(network, ZERO))
    assert np.diff(run.cycles(DISPATCH)).tolist() == [700]


def test_t16_lockstep_waits_for_the_last_pe_of_a_step():
    network = conv((1, 2, 64), 2, threshold=[1, 57])
    run = Run(network, machine(pes=2).machine("inorder"))
    assert run[0].mapping.startswith("1 x 2 x 1")
    first, second = run.events(DISPATCH)[:2], run.events(DISPATCH)[2:]
    assert first[0]["cycle"] == first[1]["cycle"]
    slow = run.cycles(ISSUE, channel=1, window=0)
    assert {e["cycle"] for e in second} == {slow[-1]}
    assert run[0].stalls["imbalance"] > 0


def test_t16_a_step_waits_for_its_pairs_unless_dense():
    """Window by window, position by position, slot by slot; a neuron's two words take less than its decision."""
    network = conv((2, 4, 16), 2, pool=WINDOW, threshold=9)
    steps = [(window, position, channel) for window in range(2) for position in range(4) for channel in range(2)]
    inorder, dense = (Run(network, machine(latency=7).machine(m), image(network, ZERO)) for m in ("inorder", "dense"))
    for run in (inorder, dense):
        assert [(e["window"], e["position"], e["channel"]) for e in run.events(DISPATCH)] == steps
    assert np.diff(dense.cycles(DISPATCH)).tolist() == [2] * 15
    for window, position, channel in steps:
        (dispatched,) = inorder.cycles(DISPATCH, window=window, position=position, channel=channel)
        (decided,) = inorder.cycles(DECIDE, window=window, position=position, channel=channel)
        words = inorder.cycles(ISSUE, window=window, position=position, channel=channel)
        assert words == [dispatched + 1, dispatched + 2], "words are speculated"
        if position < 3 and channel == 0:
            assert inorder.cycles(DISPATCH, window=window, position=position + 1, channel=0) == [decided]
    assert not any(e["value"] for e in inorder.events(DISPATCH)), "neurons are not"


def test_t16_steps_without_work_take_no_cycle():
    """The first neuron of each window fires, and the second channel is constant."""
    network = conv((2, 4, 16), 2, pool=WINDOW, threshold=[16, 0])
    run = Run(network, machine(latency=1).machine("inorder"))
    assert [(e["window"], e["position"], e["channel"]) for e in run.events(DISPATCH)] == [(0, 0, 0), (1, 0, 0)]
    assert run.cycles(DISPATCH) == [1, run.cycles(DECIDE, window=0)[0]]


def test_every_stall_can_be_named():
    """Each stall of the table occurs, and none is left over."""
    seen: dict[str, int] = {}
    runs = [
        Run(conv((1, 2, 64), 2, threshold=[1, 57]), machine(pes=2).machine("inorder")),
        Run(conv((1, 1, 64), 1, threshold=64), machine(weight_words=16, slot_words=1)),
        Run(conv((1, 4, 64), 1, threshold=1), machine(loader_words=1, pes=3, help=False)),
        Run(conv((1, 4, 64), 1, threshold=1), machine(image_in_dram=True)),
    ]
    for run in runs:
        for stage in run.result.stages:
            assert stage.issued + sum(stage.stalls.values()) == stage.pes * stage.cycles
            for name, count in stage.stalls.items():
                seen[name] = seen.get(name, 0) + count
    assert all(count > 0 for count in seen.values()), seen


def test_binary_inorder_counts_are_those_of_the_oracle():
    network = conv((6, 6, 8), 4, kernel=3, pool=WINDOW, threshold=[30, 36, 40, 60], table=BITS)
    pixels = np.random.default_rng(0).integers(0, 256, network.input.shape, dtype=np.uint8)
    result = simulate(network, pixels, machine(pes=2), machine="inorder")
    assert result.stages[0].edges == edges.count(network, pixels[None], word=8).stages[0].edges
