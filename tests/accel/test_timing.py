"""One test for each rule of docs/timing.md, named after its number."""

import re
from pathlib import Path

import numpy as np
import pytest

from o3bnn.accel import simulate
from o3bnn.model import edges
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
    tested = {int(found[1]) for name in globals() if (found := re.match(r"test_t(\d+)_", name))}
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


def test_t17_the_loader_has_its_width():
    network = conv((1, 3, 64), 1, threshold=33)
    for width, cycle in ((1, 7), (3, 2), (8, 0), (256, 0)):
        run = Run(network, machine(loader_words=width))
        assert run.cycles(LOAD)[0] == cycle
        assert run.cycles(DISPATCH)[0] == cycle + 1


def test_t18_patches_share_columns_and_leave_padding_out():
    aligned = Run(conv((3, 5, 8), 1, kernel=3, threshold=20), machine())
    assert aligned[0].traffic["map_reads"] == 9 + 3 + 3
    halves = Run(conv((3, 5, 4), 1, kernel=3, threshold=20), machine())
    assert halves[0].traffic["map_reads"] == 6 + 2 + 2, "columns of three half words take two words each"
    odd = Run(conv((3, 5, 3), 1, kernel=3, threshold=20), machine())
    assert odd[0].traffic["map_reads"] == 3 * 4, "positions of 27 edges take 4 words each"
    padded = Run(conv((1, 1, 8), 1, kernel=3, padding=1), machine())
    assert padded[0].traffic["map_reads"] == 1
    streamed = conv((1, 1, 64), 1, threshold=60)
    run = Run(streamed, machine(weight_words=8, slot_words=1))
    assert run[0].traffic["map_reads"] == 0


def test_t19_a_window_waits_for_its_place():
    network = conv((1, 4, 16), 1, threshold=9)
    wide, narrow = Run(network, machine(depth=4)), Run(network, machine(depth=4, slot_words=2))
    assert wide[0].slot_words_peak > 2
    assert narrow[0].slot_words_peak == 2
    vacated = narrow.cycles(ISSUE, window=0)[-1]
    assert narrow.cycles(LOAD)[1] == vacated
    assert narrow[0].cycles > wide[0].cycles


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_t20_no_pe_runs_further_ahead_than_depth(depth):
    network = conv((1, 8, 64), 2, threshold=[1, 64])
    run = Run(network, machine(pes=2, depth=depth, stations=2), choice=(2, 1, 1))
    last_word = {w: max(run.cycles(ISSUE, window=w)) for w in range(8)}
    for event in run.events(DISPATCH):
        if event["window"] >= depth:
            assert event["cycle"] > last_word[event["window"] - depth]
    for event in run.events(LOAD):
        if event["window"] > depth:
            assert event["cycle"] >= last_word[event["window"] - depth - 1]


def test_t21_windows_retire_in_order_after_their_last_decision():
    run = Run(conv((1, 6, 32), 2, threshold=[1, 32]), machine(pes=2, depth=4, stations=3), choice=(2, 1, 1))
    retired = run.events(RETIRE)
    assert [e["window"] for e in retired] == list(range(6))
    for event in retired:
        assert event["cycle"] > max(run.cycles(DECIDE, window=event["window"]))
    assert len({e["cycle"] for e in retired}) == 6


def test_t22_the_next_pass_starts_in_the_next_cycle():
    run = Run(conv((1, 1, 8), 1), machine())
    end = run.cycles(RETIRE)[-1]
    assert run[0].cycles == end + 1
    assert run.cycles(LOAD, stage=1)[0] == end + 1


def test_t23_residents_need_no_dram():
    run = Run(conv((4, 4, 8), 2), machine())
    assert run.result.total.traffic["dram_weight_bits"] == 0
    assert run.result.total.stalls["weights"] == 0


def test_t24_streamed_words_arrive_after_the_latency_at_the_bandwidth():
    network = conv((1, 1, 64), 1, threshold=64)
    run = Run(network, machine(weight_words=16, slot_words=1, burst_words=1, dram_bytes=1, dram_latency=10))
    assert run.cycles(ISSUE) == [11 + i for i in range(8)], "8 bits a cycle are one word a cycle"
    fast = Run(network, machine(weight_words=16, slot_words=1, burst_words=8, dram_bytes=64, dram_latency=0))
    assert fast.cycles(ISSUE)[0] == 2


def test_t25_a_full_bank_stops_the_stream():
    network = conv((1, 1, 64), 1, threshold=64)
    options = {"slot_words": 1, "dram_latency": 10, "dram_bytes": 64}
    ample = Run(network, machine(weight_words=8, burst_words=8, **options))
    tight = Run(network, machine(weight_words=2, burst_words=2, **options))
    assert np.diff(ample.cycles(ISSUE)).tolist() == [1] * 7
    assert np.diff(tight.cycles(ISSUE)).tolist() == [1, 11, 1, 11, 1, 11, 1], (
        "two words, then a request when both have left"
    )


def test_t25_bit_planes_keep_their_weights():
    """Every plane reads the weights again, so a streamed stage of one window holds them until it ends."""
    network = conv((1, 1, 64), 1, threshold=0, table=(2 * np.arange(256) - 255).astype(np.int16))
    run = Run(network, machine(weight_words=8, burst_words=1).machine("dense"))
    assert run[0].words["useful"] == 64
    assert run[0].traffic["dram_weight_bits"] == 64


def test_t25_a_pass_that_ends_before_all_its_weights_came_leaves_nothing_behind():
    """Every image pixel mismatches, so the first words decide; what of the pass was not requested by then never is."""
    network = conv((3, 4, 64), 4, kernel=3, threshold=570)
    config = machine(word=1, weight_words=700, burst_words=1, dram_bytes=1, dram_latency=0)
    run = Run(network, config, image(network, ZERO))
    assert run[0].mapping == "1 x 1 x 1 by 2 x 4, streamed"
    assert run[0].traffic["dram_weight_bits"] < 4 * 576


def test_t26_bursts_of_decided_neurons_are_not_requested():
    network = conv((1, 1, 800), 1, threshold=1)
    run = Run(network, machine(weight_words=16, slot_words=1, burst_words=1, dram_latency=2))
    assert run[0].traffic["dram_weight_bits"] < 12 * 8
    late = conv((1, 1, 800), 1, threshold=800)
    run = Run(late, machine(weight_words=16, slot_words=1, burst_words=1, dram_latency=2))
    assert run[0].traffic["dram_weight_bits"] == 800


def test_t27_spilled_maps_share_the_bandwidth():
    network = conv((4, 4, 8), 8, threshold=4)
    inside, outside = Run(network, machine()), Run(network, machine(map_bytes=(1, 1)))
    assert inside.result.total.traffic["dram_map_bits"] == 0
    assert outside[0].traffic["dram_map_bits"] == 16 * 8, "written"
    assert outside[1].traffic["dram_map_bits"] == 16 * 8, "read"
    assert outside[1].cycles > inside[1].cycles


def test_t28_a_batch_goes_through_stage_by_stage():
    network = conv((4, 4, 8), 4, kernel=3, threshold=[30, 36, 40, 50])
    batch = np.random.default_rng(1).integers(0, 256, (3, *network.input.shape), dtype=np.uint8)
    alone = [Run(network, machine(), pixels) for pixels in batch]
    together = Run(network, machine(), batch, images=3)
    assert together[0].windows == 3 * alone[0][0].windows
    assert together[0].traffic["map_reads"] == 3 * alone[0][0].traffic["map_reads"], "images share no columns"
    assert [event["window"] for event in together.events(RETIRE)] == list(range(12))
    assert together.cycles(LOAD, stage=1)[0] > together.cycles(RETIRE)[-1], "all images leave a stage first"
    for sums, run in zip(together.result.sums, alone, strict=True):
        np.testing.assert_array_equal(sums, run.result.sums)


def test_t28_weights_come_once_a_batch():
    network = conv((1, 1, 64), 4, threshold=64)
    config = machine(weight_words=8, slot_words=64)
    one = Run(network, config, choice=(1, 1, 4))
    batch = Run(network, config, np.stack([image(network)] * 3), choice=(1, 1, 4), images=3)
    bits = [run.result.total.traffic["dram_weight_bits"] for run in (one, batch)]
    assert bits == [4 * 64 + 8] * 2, "eight words a channel, and one of the output stage"
    assert batch[0].words["useful"] == 3 * one[0].words["useful"]


def test_a_slow_dram_is_no_deadlock():
    network = conv((1, 1, 64), 64, threshold=60)
    slow = {"dram_bytes": 1, "dram_latency": 0, "burst_words": 64, "weight_words": 64, "slot_words": 1 << 16}
    run = Run(network, machine(word=512, map_bytes=(1, 1), **slow))
    assert run.result.total.stalls["weights"] > 500


def test_every_stall_can_be_named():
    """Each stall of the table occurs, and none is left over."""
    seen: dict[str, int] = {}
    runs = [
        Run(conv((1, 2, 64), 2, threshold=[1, 57]), machine(pes=2).machine("inorder")),
        Run(conv((1, 1, 64), 1, threshold=64), machine(weight_words=16, slot_words=1)),
        Run(conv((1, 4, 64), 1, threshold=1), machine(loader_words=1, pes=3)),
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
