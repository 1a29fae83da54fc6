"""Groups that help each other at the end of a pass, and images that come from DRAM: rules T29 and T30."""

import numpy as np
import pytest

from tests.accel.machines import DISPATCH, ISSUE, LOAD, ONE, RETIRE, ZERO, Run, conv, image, machine

GROUPS = (1, 1, 1)
"""Groups of one PE each, strips of one window."""


def test_t29_a_group_with_no_free_pair_left_takes_the_last_half_of_those_of_another_one():
    """Window 2 goes to the first group, which has not started on it when the second one starts its last pair."""
    network = conv((1, 3, 16), 8, threshold=16)
    alone, helped = (Run(network, machine(pes=2, help=on), choice=GROUPS) for on in (False, True))
    assert alone[0].mapping == "2 x 1 x 8"
    assert [e["pe"] for e in alone.events(LOAD, window=2)] == [0]
    giver, helper = helped.events(LOAD, window=2)
    assert (giver["pe"], helper["pe"]) == (0, 1)
    assert helper["cycle"] == helped.cycles(DISPATCH, window=1)[-1], "as soon as its last pair is in flight"
    started = {e["channel"] for e in helped.events(DISPATCH, window=2, pe=0) if e["cycle"] <= helper["cycle"]}
    free = [channel for channel in range(8) if channel not in started]
    taken = [e["channel"] for e in helped.events(DISPATCH, window=2, pe=1)]
    first_part = free[len(free) - len(free) // 2 :]
    assert taken[: len(first_part)] == first_part
    kept = [e["channel"] for e in helped.events(DISPATCH, window=2, pe=0)]
    assert sorted(kept + taken) == list(range(8)), "every pair is evaluated once"
    assert helped[0].cycles < alone[0].cycles
    assert helped[0].windows == 3
    assert helped[0].traffic["map_write_bits"] == 3 * 8


def last_dispatches(run, window, pes):
    """When the last pair of the window is in flight, in order of cycle over PEs."""
    return sorted(run.cycles(DISPATCH, window=window, pe=pe)[-1] for pe in pes)


@pytest.mark.parametrize("short", [2, 3])
def test_t29_three_of_four_pes_without_a_free_pair_are_enough(short):
    """Two groups of four PEs. Short lanes need one word a neuron, the others eight; in window 2 it is the reverse."""
    network = conv((1, 3, 64), 16, threshold=[8 if channel % 4 < short else 64 for channel in range(16)])
    pixels = image(network)
    pixels[:, 2] = ZERO
    run = Run(network, machine(pes=8), pixels, choice=(4, 1, 1))
    assert run[0].mapping == "2 x 4 x 4"
    idle_at = last_dispatches(run, 1, range(4, 8))
    assert idle_at == [13] * short + [25] * (4 - short)
    giver, helper, *_ = run.events(LOAD, window=2)
    assert (giver["pe"], helper["pe"], helper["cycle"]) == (0, 1, idle_at[2])
    early = {e["pe"] for e in run.events(DISPATCH, window=2) if e["pe"] >= 4 and e["cycle"] < idle_at[3]}
    assert early == ({4, 5, 6} if short == 3 else set()), "only these have the pairs; the last one goes on with its own"
    assert sorted(e["channel"] for e in run.events(DISPATCH, window=2)) == list(range(16))


def test_t29_in_lockstep_all_pes_of_the_group_are_without_a_free_pair():
    """Only the first lane has a channel in the fourth slot."""
    network = conv((1, 3, 64), 13, threshold=64)
    run = Run(network, machine(pes=8).machine("inorder"), choice=(4, 1, 1))
    idle_at = last_dispatches(run, 1, range(4, 8))
    assert idle_at[2] < idle_at[3]
    assert run.cycles(LOAD, window=2)[1] == idle_at[3]


def test_t29_a_patch_waits_for_room_beside_those_that_the_helper_holds():
    """The second group holds windows 1 and 3, of eight words each, when three of its PEs have no free pair left."""
    network = conv((1, 4, 64), 32, threshold=[64 if channel % 4 == 3 else 8 for channel in range(32)])
    pixels = image(network)
    pixels[:, 2] = ZERO
    roomy, tight = (Run(network, machine(pes=8, slot_words=words), pixels, choice=(4, 1, 1)) for words in (24, 16))
    helped = [run.cycles(LOAD, pe=1, window=2)[0] for run in (roomy, tight)]
    assert helped == [last_dispatches(roomy, 3, range(4, 8))[2], tight.cycles(ISSUE, window=1)[-1]]


def test_t29_the_group_with_the_most_to_give_is_helped():
    """In cycle 29 the third group has its last pair in flight, the first one free pairs of window 3 only.

    The second one has four of window 1 and all of window 4: it gives six, half of them, all of the last window.
    """
    network = conv((1, 5, 64), 8, threshold=57)
    pixels = image(network)
    pixels[:, [0, 2]] = ZERO
    run = Run(network, machine(pes=3, depth=1), pixels, choice=GROUPS)
    assert [(e["cycle"], e["pe"], e["window"]) for e in run.events(LOAD)][5:] == [(29, 2, 4), (74, 1, 3)]
    assert len([c for c in run.cycles(DISPATCH, window=1) if c > 29]) == 4
    assert [e["channel"] for e in run.events(DISPATCH, window=4, pe=2)] == [2, 3, 4, 5, 6, 7]
    assert [e["channel"] for e in run.events(DISPATCH, window=3, pe=1)] == [7], "of two left"


@pytest.mark.parametrize("windows", range(5, 14))
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_t29_single_pairs_are_given_whole_or_not_at_all(windows, depth):
    """PEs of one channel give a pair only where they have one of a window behind, too."""
    network = conv((1, windows, 16), 1, threshold=12)
    pixels = np.random.default_rng(windows).integers(0, 256, network.input.shape, dtype=np.uint8)
    run = Run(network, machine(pes=4, depth=depth), pixels, choice=GROUPS)
    assert [len(run.events(DISPATCH, window=window)) for window in range(windows)] == [1] * windows
    assert len(run.events(RETIRE)) == len(run.events(LOAD))


@pytest.mark.parametrize("kind", ["dense", "inorder"])
def test_t29_lockstep_machines_help_too(kind):
    network = conv((1, 3, 16), 8, threshold=16)
    alone, helped = (Run(network, machine(pes=2, help=on).machine(kind), choice=GROUPS) for on in (False, True))
    assert helped[0].cycles < alone[0].cycles
    steps = [(e["window"], e["channel"]) for e in helped.events(DISPATCH)]
    assert sorted(steps) == [(window, channel) for window in range(3) for channel in range(8)]


def test_t29_known_neurons_of_a_pair_go_with_it():
    """In lockstep, which goes through all pairs position by position. Window 2 is short: its first neurons fire."""
    network = conv((2, 10, 16), 6, pool=((2, 2), (2, 2)), threshold=16)
    pixels = image(network, ZERO)
    pixels[1, 1::2] = ONE
    pixels[0, 4] = ONE
    run = Run(network, machine(pes=2).machine("inorder"), pixels, choice=GROUPS)
    helped = run.events(LOAD)[5]
    assert (helped["window"], helped["pe"]) == (4, 1)
    assert min(e["position"] for e in run.events(DISPATCH, window=4, pe=1)) > 0
    found = sorted((e["window"], e["channel"], e["position"]) for e in run.events(DISPATCH))
    assert found == [(w, c, p) for w in range(5) for c in range(6) for p in range(1 if w == 2 else 4)]


def test_t29_strips_that_share_neurons_are_not_divided():
    """Five windows for two groups: as strips of two the last is one window, and could be divided."""
    network = conv((3, 11, 16), 4, pool=((3, 3), (2, 2)), threshold=16)
    whole, single = (Run(network, machine(pes=2), choice=(1, strip, 1)) for strip in (2, 1))
    assert len(whole.events(LOAD)) == 5
    assert len(single.events(LOAD)) > 5


def test_t30_the_image_comes_at_half_of_the_bandwidth():
    """16 bits a cycle, of which the image gets 8: a pixel, whose window is loaded a latency and a cycle later."""
    network = conv((1, 6, 8), 1, threshold=4)
    run = Run(network, machine(dram_bytes=2, image_in_dram=True, depth=6, latency=6))
    assert run.cycles(LOAD) == [pixel + 10 + 1 for pixel in range(6)]
    assert run[0].traffic["dram_map_bits"] == 6 * 8
    assert run[0].traffic["map_write_bits"] == 6 * 8 + 6
    assert run[0].stalls["image"] > 0


def test_t30_a_row_comes_when_it_has_a_place():
    """Map memory for three rows of a byte beside the output: row w + 3 is requested when window w has retired."""
    network = conv((9, 1, 8), 1, threshold=4)
    run = Run(network, machine(dram_bytes=2, image_in_dram=True, map_bytes=(2, 3), depth=6, latency=6))
    loaded, retired = run.cycles(LOAD), run.cycles(RETIRE)
    assert loaded[:3] == [11, 12, 13]
    assert loaded[3:] == [cycle + 10 + 1 for cycle in retired[:6]]


def test_t30_a_window_waits_for_all_that_it_reads():
    network = conv((4, 3, 8), 1, kernel=3, threshold=20)
    run = Run(network, machine(dram_bytes=2, image_in_dram=True))
    assert run.cycles(LOAD) == [8 + 10 + 1, 11 + 10 + 1], "the last pixels of three and of four rows"


@pytest.mark.parametrize("rows", [3, 4, 6])
def test_t30_pixels_stay_while_a_window_reads_them(rows):
    """With padding, the windows of two rows read the same first row; the simulator checks that it is still there."""
    network = conv((6, 5, 8), 3, kernel=3, padding=1, threshold=20)
    run = Run(network, machine(pes=4, dram_bytes=2, image_in_dram=True, map_bytes=(12, 5 * rows)), choice=GROUPS)
    assert run[0].traffic["dram_map_bits"] == 6 * 5 * 8
    waited = run.cycles(LOAD, window=4 * 5)[0] > run.cycles(RETIRE, window=0)[0] + 10
    assert waited or rows == 6, "a place for the fifth row becomes free when a window retires"


def test_t30_without_place_for_a_window_the_image_is_read_as_windows_need_it():
    network = conv((3, 3, 8), 1, kernel=3, threshold=20)
    run = Run(network, machine(dram_bytes=2, image_in_dram=True, map_bytes=(2, 3)))
    assert run[0].stalls["image"] == 0
    assert run[0].traffic["dram_map_bits"] == 8 * run[0].traffic["map_reads"] == 9 * 8


def test_t30_planes_come_together():
    """Pixels of 8 planes: the same bits, in 8 times the time."""
    table = (2 * np.arange(256) - 255).astype(np.int16)
    network = conv((1, 4, 8), 1, table=table)
    run = Run(network, machine(dram_bytes=2, image_in_dram=True))
    assert run[0].traffic["dram_map_bits"] == 4 * 8 * 8
    assert run.cycles(LOAD)[0] == 7 + 10 + 1
