"""Random networks on random accelerators: bits, identities and the relations between machines.

The simulator compares its bits with the reference on every run and raises where one differs: every run here is also a
test of the bits.
"""

import random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from o3bnn.accel import AcceleratorConfig
from o3bnn.accel.formula import dense_stage_cycles
from o3bnn.accel.simulator import Simulator, TraceWindow
from o3bnn.model import edges
from tests import strategies
from tests.accel import machines
from tests.accel.machines import configs

QUICK = settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=3000)
IN_SCOPE: list[bool] = []
"""Of each stage of the dense machine: whether the closed form covers it."""


def check_identities(result):
    for stage in result.stages:
        e = stage.edges
        assert stage.issued + sum(stage.stalls.values()) == stage.pes * stage.cycles
        assert e.evaluated + e.constant + e.threshold_high + e.threshold_low + e.pooling == e.dense
        assert min(*stage.stalls.values(), *stage.words.values(), stage.wasted, e.pooling) >= 0
        assert (stage.wasted > 0) == (stage.issued > stage.words["useful"])


def check_neurons_once(simulator, result):
    """Only where strips read the same neurons is one evaluated again: a pair that changes groups takes all along."""
    for mapping, stage in zip(simulator.mapping.stages, result.stages, strict=True):
        assert mapping.work.overlaps or stage.words["halo"] == 0


def check_dense_cycles(simulator, result):
    """Compare with the closed form wherever its scope holds, whatever the machine's memories are."""
    for mapping, stage in zip(simulator.mapping.stages, result.stages, strict=True):
        wanted = dense_stage_cycles(mapping, simulator.config)
        IN_SCOPE.append(wanted is not None)
        assert wanted is None or stage.cycles == wanted


def inorder_by_hand(config):
    """The `o3` machine with D = 1, R = 1 and lockstep, field by field, and the policy that it does not have.

    The policy chooses among stations, so that with one of them it is no choice.
    """
    fields = {name: getattr(config, name) for name in AcceleratorConfig.model_fields}
    fields.update(depth=1, stations=1, lockstep=True)
    fields["policy"] = "oldest" if config.policy == "round_robin" else "round_robin"
    return AcceleratorConfig(**fields)


def larger(config, change):
    """The same accelerator with more stations (R), more windows in flight (D) or wider words (B)."""
    if change == "stations":
        return config.replace(stations=config.stations + 3)
    if change == "depth":
        return config.replace(depth=config.depth + 4)
    return config.replace(word=4 * config.word, slot_words=1 << 18, weight_words=1 << 18)


def check_pair(drawn, data):
    spec, network = drawn
    batch = strategies.images(spec, data.draw(st.sampled_from((1, 1, 2, 3))))
    config = data.draw(configs(network, images=len(batch)))
    profile = edges.count(network, batch, word=config.word, bounds=config.bounds, constants_first=True)
    simulators = {m: Simulator(network, config.machine(m), images=len(batch)) for m in ("dense", "inorder", "o3")}
    results = {machine: simulator.run(batch) for machine, simulator in simulators.items()}
    for machine, result in results.items():
        check_identities(result)
        check_neurons_once(simulators[machine], result)
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
    check_dense_cycles(simulators["dense"], results["dense"])
    plain = Simulator(network, config.machine("dense").replace(help=False, image_in_dram=False), images=len(batch))
    check_dense_cycles(plain, plain.run(batch))
    as_inorder = Simulator(network, inorder_by_hand(config), images=len(batch)).run(batch)
    for one, other in zip(as_inorder.stages, results["inorder"].stages, strict=True):
        assert (one.cycles, one.stalls, one.words) == (other.cycles, other.stalls, other.words)
    change = data.draw(st.sampled_from(("stations", "depth", "word")))
    more = Simulator(network, larger(config, change), images=len(batch)).run(batch)
    np.testing.assert_array_equal(more.sums, results["o3"].sums)
    for one, other in zip(more.maps, results["o3"].maps, strict=True):
        np.testing.assert_array_equal(one, other)


@seed(6)
@QUICK
@given(strategies.networks(small=True), st.data())
def check_pairs(drawn, data):
    check_pair(drawn, data)


def test_random_pairs():
    IN_SCOPE.clear()
    check_pairs()
    assert sum(IN_SCOPE) > 75, "the closed form covers enough of the stages"


@pytest.mark.slow
@seed(7)
@LONG
@given(strategies.networks(), st.data())
def test_many_random_pairs(drawn, data):
    check_pair(drawn, data)


@pytest.mark.parametrize("number", range(8))
def test_a_pe_whose_last_bit_is_taken_over_in_lockstep_books_what_it_does_from_then_on(number):
    """Groups share neurons through the neuron map; a traced run looks at every PE in every cycle."""
    rng = random.Random(number)
    thresholds = [rng.randint(1, 16) for _ in range(13)]
    network = machines.conv((4, 9, 16), 13, pool=((2, 2), (1, 1)), threshold=thresholds, decisive=rng.choice([0, 1]))
    sizes = {"loader_words": 1, "slot_words": 78, "weight_words": 39_936, "burst_words": 8, "map_bytes": (64, 1 << 20)}
    dram = {"dram_bytes": 4, "dram_latency": 7, "image_in_dram": True}
    config = machines.machine(pes=10, latency=4, depth=3, bounds="sharp", **sizes, **dram).machine("inorder")
    pixels = np.random.default_rng(number).integers(0, 256, network.input.shape, dtype=np.uint8)
    runs = [machines.Run(network, config, pixels, choice=(3, 2, 1)).result.to_dict()]
    with patch.object(machines, "TraceWindow", lambda *_: None):
        runs.append(machines.Run(network, config, pixels, choice=(3, 2, 1)).result.to_dict())
    assert runs[0] == runs[1]


def test_the_same_inputs_take_the_same_cycles():
    """Of two simulators that share nothing, and of one that is run again."""
    network = machines.conv((6, 6, 16), 8, kernel=3, pool=((2, 2), (2, 2)), threshold=72)
    batch = np.random.default_rng(5).integers(0, 256, (2, *network.input.shape), dtype=np.uint8)
    config = machines.machine(pes=4, stations=3, depth=3)
    one, other = (Simulator(network, config, images=2) for _ in range(2))
    first = one.run(batch).to_dict()
    assert first == one.run(batch).to_dict() == other.run(batch).to_dict()
    assert first["cycles"] == Simulator(network, config, images=2).run(batch, TraceWindow(0, 1 << 40)).cycles


def test_a_pair_that_is_settled_as_its_window_is_loaded_squashes_its_neurons():
    """A neuron that was kept for a window to come, which turns out not to need it; found by the test above."""
    conv = strategies.ConvSpec(65, (3, 3), (1, 1), (0, 1), "minus_one", ((3, 3), (2, 2)), False, 1, True)
    spec = strategies.Spec(image=(8, 3, 33), encoding="bits", convs=(conv,), dense=(31, 65), classes=6, seed=80076)
    config = machines.machine(
        word=1, stations=3, latency=2, depth=6, policy="round_robin", loader_words=64, slot_words=495,
        weight_words=594, map_bytes=(64, 1 << 20), dram_bytes=4, dram_latency=0, help=False,
    )  # fmt: skip
    check_identities(Simulator(strategies.build(spec), config).run(strategies.images(spec, 1)[0]))
