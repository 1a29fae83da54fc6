"""Bits, sums, logits and counts on hand-picked awkward networks, for every walk and every instruction set."""

import numpy as np
import pytest

from o3bnn import Engine, _native
from o3bnn.model import ConvGeometry, DenseStage, InputEncoding, Network, OutputStage, edges, packing, reference
from tests.engine import networks

ISAS = _native.available_isas()
NETWORKS = {name: networks.build(recipe) for name, recipe in networks.AWKWARD.items()}
named = pytest.mark.parametrize("name", NETWORKS)


def assert_same(engine, pictures, trace):
    for stage, found, wanted in zip(engine.network.stages, engine.activations(pictures), trace.stages, strict=True):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, wanted.bits, err_msg=stage.name)
    for found, wanted in (
        (engine.sums(pictures), trace.sums),
        (engine.run(pictures), trace.logits),
        (engine.predict(pictures), trace.classes),
    ):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


@named
@pytest.mark.parametrize("pruning", ["on", "off", "auto"])
@pytest.mark.parametrize("isa", ISAS)
def test_every_stage_equals_the_reference(name, pruning, isa, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", isa)
    pictures = networks.images(NETWORKS[name], 5)
    engine = Engine(NETWORKS[name], threads=1, pruning=pruning)
    assert engine.isa == isa
    assert_same(engine, pictures, reference.run(NETWORKS[name], pictures))


@named
@pytest.mark.parametrize("pruning", ["on", "off"])
@pytest.mark.parametrize("isa", ISAS)
def test_threads_that_share_an_image_give_the_same_sums(name, pruning, isa, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", isa)
    monkeypatch.setattr("o3bnn.engine.engine._SHARED_EDGES", 0)
    pictures = networks.images(NETWORKS[name], 2)
    wanted = reference.run(NETWORKS[name], pictures).sums
    for threads in (2, 3, 5):
        engine = Engine(NETWORKS[name], threads=threads, pruning=pruning)
        for count in (1, 2):
            np.testing.assert_array_equal(engine.sums(pictures[:count]), wanted[:count])


@named
@pytest.mark.parametrize("bounds", ["simple", "sharp"])
def test_counts_equal_the_oracle(name, bounds):
    pictures = networks.images(NETWORKS[name], 2)
    engine = Engine(NETWORKS[name], threads=2)
    for word in (1, 2, 3, 4, 8, 16, 32, 63, 64, 65, 100, 128, 192, 4096, edges.MAX_WORD):
        expected = edges.count(NETWORKS[name], pictures, word=word, bounds=bounds)
        assert engine.profile(pictures, word=word, bounds=bounds) == expected, word


def saturated(bit, threshold, fan_in, channels=5):
    """A dense stage whose weights are all `bit`, and the images that agree with all or none of its edges."""
    g = ConvGeometry(1, 1, fan_in, channels)
    stage = DenseStage(
        name="dense",
        geometry=g,
        weights=packing.pack(np.full((channels, fan_in), bit, np.uint8)),
        thresholds=np.full((1, channels), threshold, np.int32),
    )
    output = OutputStage(
        name="output",
        in_features=channels,
        weights=packing.pack(np.ones((2, channels), np.uint8)),
        scale=np.ones(2, np.float32),
        offset=np.zeros(2, np.float32),
    )
    return Network(name="full", input=InputEncoding(1, 1, fan_in, networks.BITS), stages=(stage,), output=output)


@pytest.mark.parametrize("fan_in", [1, 63, 64, 65, 64 * 29, 64 * 29 + 1, 64 * 30, 64 * 31, 64 * 60 + 7, 64 * 300])
@pytest.mark.parametrize("bit", [0, 1])
def test_counters_hold_a_patch_that_matches_everywhere_or_nowhere(fan_in, bit):
    pictures = np.zeros((2, 1, 1, fan_in), np.uint8)
    pictures[1] = 255
    for threshold in {0, 1, fan_in // 2 + 1, fan_in, fan_in + 1}:
        network = saturated(bit, threshold, fan_in)
        trace = reference.run(network, pictures)
        for pruning in ("on", "off"):
            assert_same(Engine(network, threads=1, pruning=pruning), pictures, trace)


def test_logits_are_rounded_twice():
    """A fused multiply-add would round once, and give another last bit for some of these."""
    network = NETWORKS["many words"]
    rng = np.random.default_rng(5)
    output = OutputStage(
        name="output",
        in_features=network.output.in_features,
        weights=np.repeat(network.output.weights[:1], 4096, axis=0),
        scale=rng.normal(0, 1, 4096).astype(np.float32),
        offset=rng.normal(0, 1, 4096).astype(np.float32),
    )
    network = Network(name="twice", input=network.input, stages=network.stages, output=output)
    pictures = networks.images(network, 4)
    sums = Engine(network, threads=1).sums(pictures)
    once = (sums.astype(np.float64) * output.scale + output.offset).astype(np.float32)
    twice = (sums.astype(np.float64) * output.scale).astype(np.float32) + output.offset
    assert np.any(once != twice)
    np.testing.assert_array_equal(Engine(network, threads=1).run(pictures), twice)


def test_an_infinite_logit_is_no_error():
    network = NETWORKS["no stage"]
    output = OutputStage(
        name="output",
        in_features=network.output.in_features,
        weights=packing.pack(np.ones((2, network.output.in_features), np.uint8)),
        scale=np.full(2, 3e38, np.float32),
        offset=np.zeros(2, np.float32),
    )
    network = Network(name="huge", input=network.input, stages=(), output=output)
    engine = Engine(network, threads=1)
    pictures = np.full((1, *network.input.shape), 255, np.uint8)
    assert engine.run(pictures).tolist() == [[np.inf, np.inf]]
    assert engine.predict(pictures).tolist() == [0]
