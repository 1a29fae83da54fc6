"""The dense machine's cycles equal the closed form."""

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from o3bnn.accel import Simulator
from o3bnn.accel.formula import dense_cycles, dense_stage_cycles
from tests import strategies
from tests.accel.machines import conv, image, machine

RUNS = settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
IN_SCOPE: list[bool] = []


@seed(9)
@RUNS
@given(
    strategies.networks(small=True),
    st.sampled_from((1, 2, 5, 8)),
    st.sampled_from((16, 64)),
    st.integers(1, 6),
    st.booleans(),
)
def check_dense(drawn, pes, word, depth, helps):
    spec, network = drawn
    config = machine(pes=pes, word=word, depth=depth, latency=1 + depth, slot_words=1 << 20, help=helps).machine(
        "dense"
    )
    simulator = Simulator(network, config)
    result = simulator.run(strategies.images(spec, 1)[0])
    for mapping, stage in zip(simulator.mapping.stages, result.stages, strict=True):
        wanted = dense_stage_cycles(mapping, config)
        IN_SCOPE.append(wanted is not None)
        if wanted is not None:
            assert stage.cycles == wanted


def test_dense_cycles_equal_the_closed_form():
    check_dense()
    assert sum(IN_SCOPE) > 150, "most stages are in the formula's scope"


def test_dense_cycles_of_a_whole_network():
    network = conv((6, 6, 16), 4, kernel=3, pool=((2, 2), (2, 2)), threshold=70)
    config = machine(pes=4).machine("dense")
    simulator = Simulator(network, config)
    windows, words, latency = 4, 4 * 18, 3
    hidden = 1 + 1 + windows * words * 4 // 4 + latency + 1
    output = 1 + 1 + 2 + latency + 1
    assert dense_cycles(simulator.mapping, config) == hidden + output
    assert simulator.run(image(network)).cycles == hidden + output
