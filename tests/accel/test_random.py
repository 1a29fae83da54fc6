"""Random networks on random accelerators: bits, identities and the relations between machines.

The simulator compares its bits with the reference on every run and raises where one differs: every run here is also a
test of the bits.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from o3bnn.accel.simulator import Simulator, TraceWindow, simulate
from o3bnn.model import edges
from tests import strategies
from tests.accel import machines
from tests.accel.machines import configs

QUICK = settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=3000)


def check_identities(result):
    for stage in result.stages:
        e = stage.edges
        assert stage.issued + sum(stage.stalls.values()) == stage.pes * stage.cycles
        assert e.evaluated + e.constant + e.threshold_high + e.threshold_low + e.pooling == e.dense
        assert min(*stage.stalls.values(), *stage.words.values(), stage.wasted, e.pooling) >= 0
        assert (stage.wasted > 0) == (stage.issued > stage.words["useful"])


def check_pair(drawn, data, small):
    spec, network = drawn
    batch = strategies.images(spec, data.draw(st.sampled_from((1, 1, 2, 3))))
    config = data.draw(configs(network, images=len(batch)))
    profile = edges.count(network, batch, word=config.word, bounds=config.bounds)
    simulators = {m: Simulator(network, config.machine(m), images=len(batch)) for m in ("dense", "inorder", "o3")}
    results = {machine: simulator.run(batch) for machine, simulator in simulators.items()}
    for machine, result in results.items():
        check_identities(result)
        for stage, wanted in zip(result.stages, profile.stages, strict=True):
            if stage.role == "input":
                continue
            assert stage.edges.dense == wanted.edges.dense
            if machine == "dense":
                assert stage.edges.evaluated == stage.edges.dense
            elif machine == "inorder" and stage.words["halo"] == 0 and stage.mapping.startswith("1 x"):
                assert stage.edges == wanted.edges
        awake = simulators[machine].run(batch, TraceWindow(0, 1, 1))
        assert awake.to_dict() == result.to_dict(), "a traced run looks at every PE in every cycle"
    lockstep = config.replace(depth=1, stations=1, lockstep=True)
    as_inorder = Simulator(network, lockstep, images=len(batch)).run(batch)
    assert as_inorder.total.to_dict() == results["inorder"].total.to_dict()


@seed(6)
@QUICK
@given(strategies.networks(small=True), st.data())
def test_random_pairs(drawn, data):
    check_pair(drawn, data, small=True)


@pytest.mark.slow
@seed(7)
@LONG
@given(strategies.networks(), st.data())
def test_many_random_pairs(drawn, data):
    check_pair(drawn, data, small=False)


def test_the_same_inputs_take_the_same_cycles():
    """Of two simulators that share nothing, and of one that is run again."""
    network = machines.conv((6, 6, 16), 8, kernel=3, pool=((2, 2), (2, 2)), threshold=72)
    batch = np.random.default_rng(5).integers(0, 256, (2, *network.input.shape), dtype=np.uint8)
    config = machines.machine(pes=4, stations=3, depth=3)
    one, other = (Simulator(network, config, images=2) for _ in range(2))
    first = one.run(batch).to_dict()
    assert first == one.run(batch).to_dict() == other.run(batch).to_dict()
    assert first["cycles"] == Simulator(network, config, images=2).run(batch, TraceWindow(0, 1 << 40)).cycles


@seed(8)
@settings(QUICK, max_examples=40)
@given(strategies.networks(small=True), st.data())
def test_more_stations_windows_or_bits_change_no_bit(drawn, data):
    spec, network = drawn
    image = strategies.images(spec, 1)[0]
    base = data.draw(configs(network, word=16))
    first = simulate(network, image, base)
    for change in (
        {"stations": base.stations + 3},
        {"depth": base.depth + 4},
        {"word": 64, "slot_words": 1 << 20, "weight_words": 1 << 20},
    ):
        other = simulate(network, image, base.replace(**change))
        np.testing.assert_array_equal(other.sums, first.sums)
        for one, two in zip(first.maps, other.maps, strict=True):
            np.testing.assert_array_equal(one, two)
