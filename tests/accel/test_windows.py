"""Windows, from their load to the end of a pass: rules T17 to T22 of docs/timing.md, as tests named after them."""

import pytest

from tests.accel.machines import DECIDE, DISPATCH, ISSUE, LOAD, RETIRE, Run, conv, machine


def test_t17_the_loader_has_its_width():
    network = conv((1, 3, 64), 1, threshold=33)
    for width, cycle in ((1, 7), (3, 2), (8, 0), (256, 0)):
        run = Run(network, machine(loader_words=width))
        assert run.cycles(LOAD)[0] == cycle
        assert run.cycles(DISPATCH)[0] == cycle + 1


def test_t17_groups_are_served_in_turn():
    """Windows of two words, one word a cycle: both groups always have one to load."""
    run = Run(conv((1, 8, 16), 1, threshold=4), machine(pes=2, loader_words=1), choice=(1, 1, 1))
    assert run[0].mapping == "2 x 1 x 1"
    assert [(e["window"], e["pe"], e["cycle"]) for e in run.events(LOAD)] == [(w, w % 2, 2 * w + 1) for w in range(8)]


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
    run = Run(streamed, machine(weight_words=8, slot_words=1, image_in_dram=True, map_bytes=(1, 1)))
    assert run[0].traffic["dram_map_bits"] == 64, "of a spilled map they count"


def test_t19_a_window_waits_for_its_place():
    network = conv((1, 4, 16), 1, threshold=9)
    wide, narrow = Run(network, machine(depth=4)), Run(network, machine(depth=4, slot_words=2))
    assert wide[0].slot_words_peak > 2
    assert narrow[0].slot_words_peak == 2
    vacated = narrow.cycles(ISSUE, window=0)[-1]
    assert narrow.cycles(LOAD)[1] == vacated
    assert narrow[0].cycles > wide[0].cycles


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_t20_a_fast_pe_runs_as_far_ahead_as_depth_and_the_loader_one_window_further(depth):
    """The second PE evaluates whole neurons and vacates every window with its last word; the first one waits for it."""
    network = conv((1, 8, 64), 2, threshold=[1, 64])
    run = Run(network, machine(pes=2, depth=depth, stations=2), choice=(2, 1, 1))
    vacated = {w: run.cycles(ISSUE, window=w)[-1] for w in range(8)}
    loaded = {e["window"]: e["cycle"] for e in run.events(LOAD)}
    ahead = {e["window"]: e["cycle"] for e in run.events(DISPATCH, pe=0)}
    assert all(ahead[w] < vacated[0] for w in range(depth)), "all of the first windows while the oldest is at work"
    assert [ahead[w] for w in range(depth, 8)] == [vacated[w - depth] + 1 for w in range(depth, 8)]
    assert [loaded[w] for w in range(depth + 1)] == [0] * (depth + 1)
    assert [loaded[w] for w in range(depth + 1, 8)] == [vacated[w - depth - 1] for w in range(depth + 1, 8)]


def test_t20_the_oldest_window_is_one_that_any_pe_has_not_vacated():
    """The first PE's work in a window ends long before the second one's, which alone keeps the window the oldest."""
    network = conv((1, 4, 64), 2, threshold=[1, 64])
    run = Run(network, machine(pes=2, depth=1), choice=(2, 1, 1))
    first, second = run.cycles(ISSUE, pe=0, window=0), run.cycles(ISSUE, pe=1, window=0)
    assert first[-1] + 3 < second[-1]
    assert run.cycles(DISPATCH, window=1) == [second[-1] + 1] * 2


@pytest.mark.parametrize(("depth", "latency"), [(1, 1), (1, 6), (3, 1), (3, 6)])
def test_t20_so_many_windows_are_loaded_and_not_retired(depth, latency):
    """Constants settle as they are loaded, so that nothing but the limit holds the loader, and one retires a cycle."""
    limit = depth + latency + 2
    run = Run(conv((1, 16, 8), 1, threshold=0), machine(depth=depth, latency=latency))
    assert run.cycles(LOAD) == [max(0, window - limit + 1) for window in range(16)]


def test_t21_a_window_retires_in_the_cycle_after_its_last_decision_and_its_predecessor():
    run = Run(conv((1, 6, 32), 2, threshold=[1, 32]), machine(pes=2, depth=4, stations=3), choice=(2, 1, 1))
    retired = run.events(RETIRE)
    assert [e["window"] for e in retired] == list(range(6))
    settled = [run.cycles(DECIDE, window=w)[-1] for w in range(6)]
    cycles = [e["cycle"] for e in retired]
    assert cycles == [max([settled[w], *cycles[:w]]) + 1 for w in range(6)]


def test_t21_one_window_a_cycle():
    """All six are settled in cycle 0."""
    run = Run(conv((1, 6, 8), 1, threshold=0), machine(depth=6))
    assert run.cycles(LOAD) == [0] * 6
    assert run.cycles(RETIRE) == [1, 2, 3, 4, 5, 6]


def test_t22_the_next_pass_starts_in_the_next_cycle():
    run = Run(conv((1, 1, 8), 1), machine())
    end = run.cycles(RETIRE)[-1]
    assert run[0].cycles == end + 1
    assert run.cycles(LOAD, stage=1)[0] == end + 1
