"""Weights, spilled maps and batches: rules T23 to T28 of docs/timing.md, each with tests named after its number."""

import numpy as np

from tests.accel.machines import ISSUE, LOAD, RETIRE, ZERO, Run, conv, image, machine


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


def test_t24_slots_then_bursts_then_lanes():
    """Two lanes of two slots, bursts of two words every two cycles: each word issues as soon as it is here."""
    network = conv((1, 1, 64), 4, threshold=64)
    config = machine(pes=2, weight_words=256, slot_words=1, burst_words=2, dram_bytes=1, dram_latency=10)
    run = Run(network, config, choice=(2, 1, 1))
    assert run[0].mapping == "1 x 2 x 2, streamed"
    order = [
        (slot * 2 + lane, first + word)
        for slot in range(2)
        for first in range(0, 8, 2)
        for lane in range(2)
        for word in range(2)
    ]
    assert [(e["channel"], e["value"], e["cycle"]) for e in run.events(ISSUE)] == [
        (channel, word, 11 + cycle) for cycle, (channel, word) in enumerate(order)
    ]


def test_t24_weights_of_passes_to_come_are_requested_as_soon_as_they_have_a_place():
    network = conv((1, 1, 64), 16, threshold=64)
    run = Run(network, machine(weight_words=256, slot_words=1, dram_bytes=64))
    assert run[1].mapping == "1 x 1 x 1, streamed"
    assert run[0].traffic["dram_weight_bits"] == 16 * 64 + 16
    assert run[1].traffic["dram_weight_bits"] == run[1].stalls["weights"] == 0


def test_t24_a_burst_goes_to_its_lane_in_every_group():
    network = conv((1, 4, 64), 1, threshold=64)
    one, two = (Run(network, machine(pes=n, weight_words=8), choice=(1, 1, 1)) for n in (1, 2))
    assert (one[0].mapping, two[0].mapping) == ("1 x 1 x 1, streamed", "2 x 1 x 1, streamed")
    assert (one[0].traffic["weight_writes"], two[0].traffic["weight_writes"]) == (8, 16)
    assert one[0].traffic["dram_weight_bits"] == two[0].traffic["dram_weight_bits"] == 64


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
