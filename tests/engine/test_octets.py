"""Input tables that are lines through octets, and some that are not: the same bits as the reference on every ISA."""

import numpy as np
import pytest

from o3bnn import Engine, _native
from o3bnn.model import reference
from tests.engine import networks

PIXELS = np.arange(256)
TABLES = {
    "falling": 255 - 2 * PIXELS,
    "step of three": 3 * PIXELS - 400,
    "the widest step": 128 * PIXELS - 32768,
    "a step too wide for 255 of it": np.where(PIXELS == 7, 1, 2 * PIXELS - 254),
    "two bits": 2 * (PIXELS // 64) - 3,
    "one entry differs": np.where(PIXELS == 200, 11, 5),
    "constant": np.full(256, -4),
    "positive only": 100 + PIXELS,
}


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize("channels", [70, 6], ids=["looked up", "multiplied"])  # where the processor does both
@pytest.mark.parametrize("name", TABLES)
def test_any_input_table_gives_the_reference_bits(name, channels, isa, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", isa)
    convs = (networks.Conv(channels, (3, 5), (2, 1), padding=(1, 3, 2, 0), pool=((2, 2), (2, 2))),)
    network = networks.build(networks.Recipe((11, 9, 3), convs, table=TABLES[name].astype(np.int16), seed=3))
    pictures = networks.images(network, 6)
    trace = reference.run(network, pictures)
    engine = Engine(network, threads=1, pruning="off")
    if isa == "avx512" and name == "falling":
        assert engine.kernels == ("conv_int_tables_avx512" if channels == 70 else "conv_int_avx512",)
    np.testing.assert_array_equal(engine.activations(pictures)[0], trace.stages[0].bits)
    np.testing.assert_array_equal(engine.sums(pictures), trace.sums)
    assert 0.02 < trace.stages[0].fired.mean() < 0.98


# Kernel, stride, padding and channels of stages with few enough tables a position.
LOOKED_UP = {
    "as vgg_like": networks.Conv(128, (3, 3), (1, 1), (1, 1, 1, 1)),
    "as alexnet": networks.Conv(96, (11, 11), (4, 4), (2, 2, 2, 2), pool=((3, 3), (2, 2))),
    "as resnet": networks.Conv(64, (7, 7), (2, 2), (3, 3, 3, 3)),
    "uneven": networks.Conv(97, (5, 7), (3, 1), (0, 2, 1, 3), pool=((2, 1), (3, 1))),
    "several sums of 16 bits": networks.Conv(33, (18, 12), (2, 2), (4, 0, 4, 1)),
}


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize("name", LOOKED_UP)
def test_sums_that_are_looked_up_give_the_reference_bits(name, isa, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", isa)
    monkeypatch.setattr("o3bnn.engine.engine._SHARED_EDGES", 0)
    network = networks.build(networks.Recipe((29, 31, 3), (LOOKED_UP[name],), seed=4))
    pictures = networks.images(network, 3)
    pictures[1] = 255 * (pictures[1] > 127)
    trace = reference.run(network, pictures)
    engine = Engine(network, threads=1, pruning="off")
    assert engine.kernels == ("conv_int_tables_avx512" if isa == "avx512" else f"conv_int_{isa}",)
    np.testing.assert_array_equal(engine.activations(pictures)[0], trace.stages[0].bits)
    assert 0.02 < trace.stages[0].fired.mean() < 0.98
    for threads in (1, 2, 3):  # which share an image, and the map rows between their parts
        engine = Engine(network, threads=threads, pruning="off")
        np.testing.assert_array_equal(engine.sums(pictures[:1]), trace.sums[:1])
