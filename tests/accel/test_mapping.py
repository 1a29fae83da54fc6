"""The mapping's choices: whole rounds of strips, work of overlapping pools, room for the weights of dense stages."""

import numpy as np

from o3bnn.accel import Simulator, calibrate, cost
from o3bnn.accel.work import stage_works
from tests.accel.machines import ZERO, Run, conv, image, machine


def test_a_choice_that_ends_evenly_wins():
    """Six equal windows on four PEs: four groups of one lane need two rounds of four words, all others six words."""
    network = conv((1, 6, 8), 4, threshold=8)
    config = machine(pes=4, stations=4, help=False)
    shares = {"conv": np.ones(4), "output": np.ones(1)}
    cycles = {lanes: Run(network, config, choice=(lanes, 1, 1))[0].cycles for lanes in (1, 2, 4)}
    chosen = Simulator(network, config, shares).mapping.stages[0].passes[0]
    assert cycles[1] > cycles[2]
    assert cycles[chosen.lanes] == min(cycles.values())


def test_a_profile_counts_the_neurons_that_exist():
    """Nine neurons a window of 3 x 3, but 25 in all, each of one word where none of them fires."""
    network = conv((5, 5, 8), 1, pool=((3, 3), (2, 2)), threshold=8)
    shares = calibrate(network, image(network, ZERO)[None], machine())
    assert shares["conv"].tolist() == [1.0]


def test_the_stage_before_a_large_dense_one_leaves_room_in_the_banks():
    """Many lanes hold few bank words each; here they are uneven, so that it takes a reason to choose them.

    The bank's 16 words of 8 PEs would take 128 cycles to fetch, of which every bank word of the stage delays 8.
    """
    work = stage_works(conv((16, 16, 8), 8), word=8)[0]
    config = machine(pes=8, dram_bytes=1)
    words = {1: 8.0, 2: 4.2, 3: 3.3, 4: 2.2, 8: 1.2}
    chosen = [
        cost.cheapest(work, config, cost.Room(16, next_bits=bits), lambda n, _: words[n]).lanes for bits in (0, 2048)
    ]
    assert chosen == [1, 4]


def test_an_image_in_dram_is_read_from_there():
    """Sixteen pixels of a word each, a byte a cycle; otherwise the image costs nothing."""
    network = conv((1, 16, 8), 1, threshold=8)
    beside, inside = Run(network, machine(loader_words=16)), Run(network, machine(loader_words=16, image_in_dram=True))
    assert beside.result.total.traffic["dram_map_bits"] == 0
    assert inside[0].traffic["dram_map_bits"] == 16 * 8
    assert inside[0].cycles >= 16
    assert inside.result.sums.tolist() == beside.result.sums.tolist()
